"""genctl models, genctl info: what can be named, and what a file says of itself. Neither needs torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from genctl import files, hub
from genctl.cli import shared
from genctl.errors import GenctlError

SHOWN = 5  # prompts of a model file, of which --json has all


def models(as_json: shared.Json = False) -> None:
    """List the models that can be named: shipped, in GENCTL_MODELS, in ./runs (by path where a name is taken)."""
    rows = []
    for name, path in hub.listed():
        try:
            rows.append(_row(name, path))
        except GenctlError as error:
            rows.append({"name": name, "problem": str(error)})
    if as_json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return
    for line in _table(rows):
        print(line)


def _row(name: str, path: Path) -> dict[str, Any]:
    document, header = hub.read_document(path)
    return {
        "name": name,
        "family": document.get("family", "?"),
        "parameters": header.parameters,
        "megabytes": round((header.data_start + header.data_bytes) / 1e6, 1),
        "pixels": document.get("pixels"),
        "can": document.get("can", []),
        "figures": document.get("figures", {}),
        "licence": document.get("licence", ""),
    }


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows in aligned columns."""
    cells = [("NAME", "FAMILY", "PARAMETERS", "SIZE", "PIXELS", "CAN")]
    for row in rows:
        if "problem" in row:
            cells.append((row["name"], "?", "", "", "", row["problem"]))
            continue
        size, count = f"{row['megabytes']} MB", f"{row['parameters'] / 1e6:.1f} M"
        cells.append((row["name"], row["family"], count, size, str(row["pixels"]), ", ".join(row["can"])))
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    return ["  ".join([*(row[c].ljust(widths[c]) for c in range(5)), row[5]]).rstrip() for row in cells]


def info(
    target: Annotated[str, typer.Argument(help="A model, a picture, or a code file.")],
    as_json: shared.Json = False,
) -> None:
    """Say everything a file says of itself; for a picture, how it was made."""
    document = _describe(target)
    if as_json:
        print(json.dumps(document, ensure_ascii=False))
        return
    prompts = document.get("prompts")
    if isinstance(prompts, list) and len(prompts) > SHOWN:
        some = ", ".join(map(repr, prompts[:: len(prompts) // SHOWN][:SHOWN]))
        document = document | {"prompts": f"{len(prompts):,} (--json has all), such as {some}"}
    for line in _lines(document):
        print("".join(mark if mark.isprintable() else "?" for mark in line))  # a file may hold terminal escapes


def _describe(target: str) -> dict[str, Any]:
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
    if "family" in document:
        shared.remark_others(target)
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


def _lines(document: Any, indent: str = "") -> list[str]:
    """Nested keys as indented lines."""
    lines = []
    for key, value in document.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, str) and "\n" in value.strip():
            lines += [f"{indent}{key}:", *(f"{indent}  {line}" for line in value.strip().splitlines())]
        else:
            lines.append(f"{indent}{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    return lines
