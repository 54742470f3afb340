"""What other tools wrote into a picture of how it was made: A1111 and its kin, ComfyUI, InvokeAI. Read, never trusted.

A1111, Forge, SD.Next, Civitai   a line of parameters: PNG text `parameters`, EXIF UserComment elsewhere
ComfyUI                          the graph of nodes as JSON: PNG texts `prompt` (what ran) and `workflow`
InvokeAI                         JSON: PNG text `invokeai_metadata`, before that `sd-metadata`
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from genctl.media.formats import open_picture
from genctl.media.png import PNG_START, png_texts

USER_COMMENT, EXIF_IFD = 0x9286, 0x8769
INVOKE_KEYS = ("invokeai_metadata", "sd-metadata", "dream_metadata")
NODE_KEYS = ("seed", "noise_seed", "steps", "cfg", "sampler_name", "scheduler", "denoise", "ckpt_name", "unet_name")
FURTHER = ("Description", "Comment", "Software", "Title", "Author")
MOST = 20_000  # characters of a text that are shown


def made_by_others(data: bytes) -> dict[str, Any]:
    """What a picture says of how another tool made it; empty where it says nothing. Never raises for a strange file."""
    try:
        return _said(_texts(data))
    except Exception:  # an untrusted file may fail in any of Pillow's ways; then it says nothing of itself
        return {}


def _texts(data: bytes) -> dict[str, str]:
    """The texts in a picture, by what PNG calls them."""
    if data.startswith(PNG_START):
        return png_texts(data)
    comment = open_picture(data).getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
    if isinstance(comment, str):
        return {"parameters": comment}
    code, text = bytes(comment[:8]), bytes(comment[8:])
    if code == b"UNICODE\0":
        return {"parameters": text.decode("utf-16-le" if text[1:2] == b"\0" else "utf-16-be", "replace")}
    return {"parameters": (text if code in (b"ASCII\0\0\0", bytes(8)) else comment).decode("utf-8", "replace")}


def _said(texts: dict[str, str]) -> dict[str, Any]:
    for key in INVOKE_KEYS:
        if key in texts:
            return {"made_by": "InvokeAI", "metadata": _json(texts[key])}
    nodes = _json(texts["prompt"]) if "prompt" in texts else None
    if isinstance(nodes, dict) and any(isinstance(node, dict) and "class_type" in node for node in nodes.values()):
        return {"made_by": "ComfyUI"} | _graph(nodes)
    if "workflow" in texts:
        return {"made_by": "ComfyUI", "workflow": _json(texts["workflow"])}
    if texts.get("parameters", "").strip("\0 "):
        line = texts["parameters"].strip("\0 ")[:MOST]
        return {"made_by": "a tool that writes as A1111's does" if "Steps: " in line else "?", "parameters": line}
    return {key.lower(): texts[key][:MOST] for key in FURTHER if key in texts}


def _graph(nodes: dict[str, Any]) -> dict[str, Any]:
    """The texts and settings in a graph of nodes."""
    inputs = [
        node["inputs"] for node in nodes.values() if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
    ]
    texts = [one["text"] for one in inputs if isinstance(one.get("text"), str)]
    return {"texts": texts, **dict(_settings(inputs))}


def _settings(inputs: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    for key in NODE_KEYS:
        values = [one[key] for one in inputs if isinstance(one.get(key), (str, int, float))]
        if values:
            yield key, values[0] if len(values) == 1 else values


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text[:MOST]
