"""How a picture was made, kept within the picture.

The key `genctl` holds the truth as JSON: version, model name and sha256, prompt, seed, steps, solver, guidance. A
`parameters` line beside it is what other galleries read. PNG keeps both as text; WebP and JPEG as EXIF UserComment (the
line) and XMP (the JSON); GIF as its comment. No path, host, user name or time is written; what is read is untrusted.
"""

from __future__ import annotations

import html
import json
import math
import re
from typing import Any, NoReturn

from PIL import Image, PngImagePlugin

from genctl.media.formats import open_picture
from genctl.media.png import PNG_START, png_texts

USER_COMMENT, EXIF_IFD = 0x9286, 0x8769
EBML = b"\x1aE\xdf\xa3"  # the beginning of a WebM
FILM_BRANDS = tuple(b"ftyp" + brand for brand in (b"isom", b"iso5", b"iso6", b"mp42", b"mp41", b"M4V ", b"qt  "))
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:genctl="https://genctl/ns/1.0/"><genctl:document>{}</genctl:document>'
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
LABELS = {
    "steps": "Steps", "solver": "Sampler", "guidance_scale": "CFG scale", "seed": "Seed", "size": "Size",
    "model": "Model",
}  # fmt: skip
TYPES: dict[str, type | tuple[type, ...]] = {
    "version": str, "model": str, "sha256": str, "prompt": str, "negative": str, "solver": str, "size": str,
    "seed": int, "steps": int, "guidance_scale": (int, float), "guidance_interval": list,
}  # fmt: skip
MOST_TEXT = 60_000  # bytes of JSON: a JPEG holds 64 KiB of XMP
LEAST_TEXT = 100  # characters: before texts are cut shorter than that, a sheet says less of its pictures
MOST_OTHER = 900_000  # bytes of it in other formats, which have no such limit
MOST_READ = 1 << 20  # characters of JSON that are parsed


def parameters(document: dict[str, Any]) -> str:
    """What galleries read: prompt, negative prompt, then `Steps: 20, Sampler: Euler, CFG scale: 4, Seed: 1, ...`."""
    lines = [str(document.get("prompt") or "")]
    if document.get("negative"):
        lines.append(f"Negative prompt: {document['negative']}")
    shown = {key: document[key] for key in LABELS if document.get(key) is not None}
    if "solver" in shown:
        shown["solver"] = str(shown["solver"]).capitalize()
    if "guidance_scale" in shown:
        shown["guidance_scale"] = f"{shown['guidance_scale']:g}"
    parts = [f"{LABELS[key]}: {value}" for key, value in shown.items()]
    lines.append(", ".join([*parts, f"Version: genctl {document.get('version', '')}".rstrip()]))
    return "\n".join(lines)


def embed(document: dict[str, Any] | None, form: str) -> dict[str, Any]:
    """Keyword arguments for Pillow's save that put `document` into a file ("png", "webp", "jpeg", "avif" or "gif").

    The same document gives the same bytes. What is too long is cut, its longest texts and if need be what a sheet
    says of its pictures one by one: above 60,000 bytes for JPEG, 900,000 else.
    """
    if document is None:
        return {}
    text, document = _fitted(document, MOST_TEXT if form == "jpeg" else MOST_OTHER)
    line = parameters(document).replace("\0", " ")
    if form == "png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("genctl", text)
        info.add_text("parameters", line)  # tEXt if Latin-1, which every gallery reads; else iTXt, by itself
        return {"pnginfo": info}
    if form == "gif":
        return {"comment": text.encode()}
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = b"UNICODE\0" + line.encode("utf-16-be")
    return {"exif": exif.tobytes(), "xmp": XMP.format(html.escape(text, quote=False)).encode()}


def as_text(document: dict[str, Any]) -> str:
    """The document as JSON, cut as `embed` does: for what holds a text of any length."""
    return _fitted(document, MOST_OTHER)[0]


def _fitted(document: dict[str, Any], room: int) -> tuple[str, dict[str, Any]]:
    """The document as JSON of at most `room` bytes in each of its disguises, and what it then holds."""
    most = MOST_TEXT
    while True:
        short = _cut(document, most)
        text = json.dumps(short, sort_keys=True, ensure_ascii=False)
        longest = max(len(html.escape(text, quote=False).encode()), len(parameters(short).encode("utf-16-be")))
        if longest <= room or most == 0:
            return text, short
        most //= 2
        if most < LEAST_TEXT and "pictures" in document:
            document = {key: value for key, value in document.items() if key not in ("pictures", "sheet")}
            most = MOST_TEXT


def _cut(value: Any, most: int) -> Any:
    """A document whose texts, at any depth, have at most so many characters that can be written."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()[:most]
    if isinstance(value, dict):
        return {key: _cut(item, most) for key, item in value.items()}
    return [_cut(item, most) for item in value] if isinstance(value, (list, tuple)) else value


def read_provenance(data: bytes) -> dict[str, Any] | None:
    """The document that `embed` put into a picture, or None. Never raises for a strange file.

    It is a stranger's text, not ours: only the types of the known keys are as `embed` wrote them.
    """
    try:
        text = _embedded(data)
        document = (
            json.loads(text, parse_constant=_refuse, parse_float=_finite) if text and len(text) <= MOST_READ else None
        )
    except Exception:  # an untrusted file may fail in any of Pillow's ways; then it says nothing of itself
        return None
    return document if isinstance(document, dict) and _plausible(document) else None


def _embedded(data: bytes) -> str | None:
    """The JSON that a picture carries; no pixel is decoded for it."""
    if data.startswith(PNG_START):
        return png_texts(data).get("genctl")
    if data[:4] == EBML or data[4:12] in FILM_BRANDS:
        from genctl.media.clips import film_comment

        return film_comment(data)
    image = open_picture(data)
    if image.format == "GIF":
        return image.info.get("comment", b"").decode()
    found = re.search(rb"<genctl:document>(.*?)</genctl:document>", image.info.get("xmp") or b"", re.DOTALL)
    return html.unescape(found.group(1).decode()) if found else None


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _plausible(document: dict[str, Any]) -> bool:
    known = {key: document[key] for key in TYPES if document.get(key) is not None}
    interval = known.get("guidance_interval", [0, 1])
    return all(isinstance(value, TYPES[key]) and not isinstance(value, bool) for key, value in known.items()) and (
        len(interval) == 2 and all(isinstance(end, (int, float)) for end in interval)
    )
