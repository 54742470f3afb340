"""genctl models, genctl info: what can be named, and what a file says of itself. Neither needs torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from genctl import hub
from genctl.cli import say, shared
from genctl.describe import describe
from genctl.errors import GenctlError, InputError
from genctl.families import registry

SHOWN = 5  # prompts of a model file, of which --json has all


def models(as_json: shared.Json = False) -> None:
    """List the models: shipped ones, those in the folders of $GENCTL_MODELS, and runs in ./runs (by path)."""
    rows = []
    for name, path in hub.listed():
        try:
            rows.append(_row(name, path))
        except GenctlError as error:
            rows.append({"name": name, "problem": str(error)})
    if as_json:
        for row in rows:
            say.document(row)
        return
    for line in _table(rows):
        say.line(line)


def _row(name: str, path: Path) -> dict[str, Any]:
    document, header = hub.read_document(path)
    return {
        "name": name,
        "family": document.get("family", "?"),
        "parameters": header.parameters,
        "megabytes": round((header.data_start + header.data_bytes) / 1e6, 1),
        "pixels": document.get("pixels"),
        "can": document.get("can", []),
        "draws": _draws(document),
        "figures": document.get("figures", {}),
        "licence": document.get("licence", ""),
    }


def _draws(document: dict[str, Any]) -> str | None:
    """What comes out of a model that draws."""
    about = registry.REGISTRY.get(document.get("family", ""))
    return ("clips" if about.clips else "pictures") if about and about.options else None


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
    targets: Annotated[list[str], typer.Argument(help="Models, pictures, code files, or folders of pictures.")],
    as_json: shared.Json = False,
) -> None:
    """Show the metadata of files; of a picture, how it was made."""
    every = [path for target in targets for path in _files_of(target)]
    failed: GenctlError | None = None
    for number, target in enumerate(every):
        try:
            document = _described(target)
        except GenctlError as error:
            if len(every) == 1:
                raise
            failed = failed or error
            shared.remark(f"genctl: {error}")
            continue
        if "family" in document:
            shared.remark_others(target)
        if as_json:
            say.document(({"path": target} if len(every) > 1 else {}) | document)
            continue
        if len(every) > 1:
            say.line("") if number else None
            say.line(target)
        _print(document)
    if failed:
        raise type(failed)(f"some files could not be read, the first: {failed}")


def _described(target: str) -> dict[str, Any]:
    if target in registry.untrained() and not Path(target).exists():
        return shared.untrained_document(target) | {"made_of": "the pictures of a folder, each time (--data)"}
    return describe(target, shared.remark)


def _files_of(target: str) -> list[str]:
    """A folder's pictures, or the target itself. Raises InputError for a folder without any."""
    from genctl.media.folder import picture_files

    folder = Path(target)
    if not folder.is_dir() or (folder / "model.safetensors").exists() or (folder / "run.json").exists():
        return [target]
    found = [str(path) for path in picture_files(folder)]
    shared.remark_left_out(target)
    if not found:
        raise InputError(f"{target}: no pictures in this folder, and no run")
    return found


def _print(document: dict[str, Any]) -> None:
    for key in ("prompts", "words"):
        known = document.get(key)
        if isinstance(known, list) and len(known) > SHOWN:
            some = ", ".join(map(repr, known[:: len(known) // SHOWN][:SHOWN]))
            document = document | {key: f"{len(known):,} (--json has all), such as {some}"}
    for line in _lines(document):
        say.line(line)


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
