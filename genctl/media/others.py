"""What other tools wrote into a picture of how it was made: A1111 and its kin, ComfyUI, InvokeAI. Read, never trusted.

A1111, Forge, SD.Next, Civitai   a line of parameters: PNG text `parameters`, EXIF UserComment elsewhere
ComfyUI                          the graph of nodes as JSON: PNG texts `prompt` (what ran), `workflow`; EXIF Model, Make
InvokeAI                         JSON: PNG text `invokeai_metadata`, before that `sd-metadata`
SwarmUI, Fooocus                 JSON under the name of A1111's line
others                           whatever texts there are, by their keys
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from genctl.errors import InputError
from genctl.media.formats import open_picture
from genctl.media.png import PNG_START, png_texts
from genctl.text import lenient, parse_json

USER_COMMENT, EXIF_IFD = 0x9286, 0x8769
INVOKE_KEYS = ("invokeai_metadata", "sd-metadata", "dream_metadata")
NODE_KEYS = ("seed", "noise_seed", "steps", "cfg", "sampler_name", "scheduler", "denoise", "ckpt_name", "unet_name")
EXIF_TEXTS = {0x010E: "description", 0x010F: "make", 0x0110: "model", 0x0131: "software", 0x013B: "artist"}
MOST_KEYS = 20  # texts of an unknown tool that are shown
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
    image = open_picture(data)
    exif = image.getexif()
    found = {key: str(exif[tag]).strip("\0 ") for tag, key in EXIF_TEXTS.items() if exif.get(tag)}
    for key in ("make", "model"):  # where ComfyUI puts its graphs: `prompt:{...}`
        name, colon, graph = found.get(key, "").partition(":")
        if colon and name.lower() in ("prompt", "workflow"):
            found[name.lower()] = graph.strip()
            del found[key]
    if isinstance(image.info.get("comment"), bytes):
        found["comment"] = lenient(image.info["comment"]).strip("\0 ")
    line = _user_comment(exif.get_ifd(EXIF_IFD).get(USER_COMMENT, b"")) or found.get("comment", "")
    return found | ({"parameters": line} if "Steps: " in line or not found else {"user comment": line} if line else {})


def _user_comment(comment: Any) -> str:
    """The text of EXIF's UserComment, which begins with the name of its encoding."""
    if isinstance(comment, str):
        return comment
    code, text = bytes(comment[:8]), bytes(comment[8:])
    if code == b"UNICODE\0":
        return text.decode("utf-16-le" if text[1:2] == b"\0" else "utf-16-be", "replace")
    return (text if code in (b"ASCII\0\0\0", bytes(8)) else comment).decode("utf-8", "replace")


def _said(texts: dict[str, str]) -> dict[str, Any]:
    for key in INVOKE_KEYS:
        if key in texts:
            return {"made_by": "InvokeAI", "metadata": _json(texts[key])}
    nodes = _json(texts["prompt"]) if "prompt" in texts else None
    if isinstance(nodes, dict) and any(isinstance(node, dict) and "class_type" in node for node in nodes.values()):
        return {"made_by": "ComfyUI"} | _graph(nodes)
    if "workflow" in texts:
        return {"made_by": "ComfyUI", "workflow": _json(texts["workflow"])}
    if line := texts.get("parameters", "").strip("\0 "):
        return _parameters(line, texts)
    said = {key.lower(): _json(texts[key][:MOST]) for key in list(texts)[:MOST_KEYS] if texts[key].strip("\0 ")}
    return {"made_by": said.get("software", "another tool"), "texts": said} if said else {}


def _parameters(line: str, texts: dict[str, str]) -> dict[str, Any]:
    """A1111's line, or the JSON that others put under its name."""
    said = _json(line)
    if isinstance(said, dict):
        tool = "SwarmUI" if "sui_image_params" in said else "Fooocus" if "fooocus_scheme" in texts else "another tool"
        return {"made_by": tool, "metadata": said}
    tool = "a tool that writes as A1111's does" if "Steps: " in line else "another tool"
    return {"made_by": tool, "parameters": line[:MOST]}


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
    """The value of JSON that can be written again, or the text as it is."""
    try:
        value = parse_json(text, "the text")
        json.dumps(value, allow_nan=False)
    except (ValueError, InputError):
        return text[:MOST]
    return value
