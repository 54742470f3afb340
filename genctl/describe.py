"""What a file says of itself: a model, a part of one, a picture or codes. Without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genctl import files, hub
from genctl.errors import GenctlError


def describe(target: str) -> dict[str, Any]:
    """Everything that a model (by name or path), picture or code file says of itself. Raises GenctlError."""
    from genctl.media.pictures import ENDINGS
    from genctl.media.provenance import read_provenance
    from genctl.media.stream import read_file

    if Path(target).suffix.lower() in ENDINGS:
        data = read_file(Path(target))
        document = read_provenance(data)
        if document is None:
            from genctl.media.pictures import read_picture

            size = read_picture(data, target).size
            return {"picture": f"{size[0]}x{size[1]}", "made_by": "not said in the file"}
        return document
    if Path(target).is_file() and Path(target).suffix == ".safetensors":
        documents = _code_documents(Path(target))
        if documents:
            return documents[0] | ({"documents": len(documents)} if len(documents) > 1 else {})
    if not hub.path_like(target) and not Path(target).exists() and target in dict(hub.known("part")):
        path = hub.resolve(target, kind="part")
    else:
        path = hub.resolve(target)
    document, header = hub.read_document(path)
    sha256 = hub.check_sha256(path)
    files.check_tensors(path, header)
    return document | {"parameters": header.parameters, "sha256": sha256}


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
