"""What a file says of itself: a model, a part of one, a picture or codes. Without torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genctl import files, hub
from genctl.errors import GenctlError, InputError


def describe(target: str, remark: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Everything that a model (by name or path), picture or code file says of itself; `remark` gets what a person
    should know besides. A file is taken for what its first bytes say, whatever its name. Raises GenctlError."""
    from genctl.media.clips import film_at
    from genctl.media.formats import ENDINGS, looks_like_picture
    from genctl.media.stream import read_file

    path = Path(target)
    if film_at(path):
        return of_film(read_file(path), target)
    if path.suffix.lower() in ENDINGS or (os.path.isfile(path) and looks_like_picture(first_of(path))):
        return of_picture(read_file(path), target, remark)
    if os.path.isfile(path) and path.suffix == ".safetensors":
        documents = _code_documents(path)
        if documents:
            return documents[0] | ({"documents": len(documents)} if len(documents) > 1 else {})
    if not hub.path_like(target) and not os.path.exists(path) and target in dict(hub.known("part")):
        path = hub.resolve(target, kind="part")
    else:
        path = hub.resolve(target)
    document, header = hub.read_document(path)
    sha256 = hub.check_sha256(path)
    files.check_tensors(path, header)
    return document | {"parameters": header.parameters, "sha256": sha256}


def of_picture(data: bytes, name: str, remark: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """How a picture was made: by genctl, else as far as other tools say, else its size alone. Raises InputError."""
    from genctl.media.others import made_by_others
    from genctl.media.pictures import read_picture
    from genctl.media.provenance import read_provenance

    document = read_provenance(data)
    if document is not None:
        return document
    size = read_picture(data, name, remark).size
    return {"picture": f"{size[0]}x{size[1]}"} | (made_by_others(data) or {"made_by": "not said in the file"})


def of_film(data: bytes, name: str) -> dict[str, Any]:
    """How a film was made, else its size and how often it changes. Raises InputError."""
    from genctl.media.clips import frames_of
    from genctl.media.provenance import read_provenance

    document = read_provenance(data)
    if document is not None:
        return document
    image, seconds = next(frames_of(data, name))
    said = {"made_by": "not said in the file"}
    return {"film": f"{image.width}x{image.height}", "fps": round(1 / max(seconds, 1e-3), 2)} | said


def first_of(path: Path) -> bytes:
    """A file's first bytes. Raises InputError."""
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _code_documents(path: Path) -> list[dict[str, Any]]:
    """What each document of a code file says of itself, with its shape; nothing where the file is something else."""
    documents = []
    with path.open("rb") as file:
        while prefix := file.read(8):
            try:
                header = files.parse_header(prefix, file.read(files.header_length(prefix, str(path))), str(path))
            except GenctlError:
                return []
            if header.document.get("kind") != "codes" or "codes" not in header.tensors:
                return []
            documents.append(header.document | {"shape": list(header.tensors["codes"].shape)})
            file.seek(header.data_bytes, 1)
    return documents
