"""Code files: one safetensors document a picture, tensor `codes`, and in its header what they are and who can decode
them: model name and sha256, the meaning of the axes, the picture's size."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from genctl.errors import InputError, ModelError
from genctl.files import header_length, pack_tensors, parse_header, tensor_bytes, unpack_tensors

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
GIVE = "give codes written by `genctl encode`"
MOST_AXES = 8


def pack_codes(codes: Tensor, info: dict[str, Any]) -> bytes:
    """One picture's codes, as [C, h, w], as a document. `info`: model, sha256, pixels [H, W], axes."""
    document = {"format": FORMAT, "kind": "codes"} | info
    prefix, ordered = pack_tensors({"codes": codes}, {"genctl": json.dumps(document, sort_keys=True)})
    return prefix + b"".join(tensor_bytes(tensor) for tensor in ordered)


def read_codes(data: bytes, name: str) -> tuple[Tensor, dict[str, Any]]:
    """Codes and what their header says, its `pixels`, `model` and `sha256` being of the right type if there.

    Raises InputError for anything that is not whole, finite codes.
    """
    import torch

    document = _document(data, name)
    try:
        codes = unpack_tensors(data, name)[0]["codes"]
    except (RuntimeError, ValueError, OverflowError) as error:  # a shape or an alignment that torch does not take
        raise InputError(f"{name}: damaged codes ({' '.join(str(error).split())[:100]})") from None
    if codes.is_floating_point() and not bool(torch.isfinite(codes).all()):
        raise InputError(f"{name}: the codes hold NaN or infinite values; encode the picture again")
    return codes, document


def _document(data: bytes, name: str) -> dict[str, Any]:
    """What the header says, once it is known to be that of codes. Raises InputError."""
    try:
        length = header_length(data[:8], name)
        header = parse_header(data[:8], data[8 : 8 + length], name)
        document = header.document
    except ModelError as error:
        raise InputError(f"{error}; {GIVE}") from None
    except RecursionError:
        raise InputError(f"{name}: damaged safetensors header (nested too deeply); {GIVE}") from None
    if document.get("kind") != "codes" or set(header.tensors) != {"codes"}:
        what = f"a {document['family']} model" if "family" in document else "a safetensors file, but not codes"
        raise InputError(f"{name}: {what}; {GIVE}")
    if document.get("format") != FORMAT:
        raise InputError(f"{name}: codes of format {document.get('format')!r}, here {FORMAT}; a newer genctl made them")
    codes = header.tensors["codes"]
    if not 1 <= len(codes.shape) <= MOST_AXES or 0 in codes.shape:
        raise InputError(f"{name}: codes of shape {list(codes.shape)[:MOST_AXES]}, which no picture has")
    _check_facts(document, name)
    return document


def _check_facts(document: dict[str, Any], name: str) -> None:
    pixels = document.get("pixels")
    sane = (
        isinstance(pixels, list) and len(pixels) == 2 and all(type(one) is int and 0 < one < 1 << 16 for one in pixels)
    )
    if pixels is not None and not sane:
        raise InputError(f"{name}: damaged codes (pixels {str(pixels)[:40]}, wanted [height, width])")
    frames, fps = document.get("frames", 1), document.get("fps", 1)
    if type(frames) is not int or not 1 <= frames < 1 << 16:
        raise InputError(f"{name}: damaged codes (frames {str(frames)[:40]}, wanted a whole number)")
    if type(fps) not in (int, float) or not 0.1 <= fps <= 1000:
        raise InputError(f"{name}: damaged codes (fps {str(fps)[:40]}, wanted a number from 0.1 to 1000)")
    for key in ("model", "sha256"):
        if not isinstance(document.get(key, ""), str):
            raise InputError(f"{name}: damaged codes ({key} is not text)")
