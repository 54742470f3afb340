"""Names to files. A model's name is, in this order of looking:

    a path to a .safetensors file or a run folder (its model.safetensors)
    a shipped model, from `weights/` of a checkout or inside the installed package
    a model or run in a folder of `GENCTL_MODELS` (os.pathsep between folders), or in ./runs
    hf://owner/repo[/file.safetensors][@revision], through huggingface_hub, its cache and its offline switch

Local names never import huggingface_hub.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genctl import files
from genctl.errors import ModelError, UsageError, WorldError, nearest

HERE = Path(__file__).resolve().parent


def weights_folder() -> Path:
    """Where the shipped models are: inside the installed package, or beside it in a checkout."""
    inside = HERE / "_weights"
    return inside if inside.is_dir() else HERE.parent / "weights"


def index() -> dict[str, dict[str, Any]]:
    """weights/index.json: name -> {file, sha256, bytes, kind, licence, ...}."""
    path = weights_folder() / "index.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def folders() -> list[Path]:
    """Folders searched for names, besides the shipped ones."""
    named = [Path(part) for part in os.environ.get("GENCTL_MODELS", "").split(os.pathsep) if part]
    return [*named, Path("runs")]


def known(kind: str = "model") -> Iterator[tuple[str, Path]]:
    """(name, file) of everything that can be named without a network."""
    for name, row in index().items():
        if row.get("kind", "model") == kind:
            yield name, weights_folder() / row["file"]
    if kind == "model":
        for folder in folders():
            for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else []:
                yield path.stem, path
            for path in sorted(folder.glob("*/model.safetensors")) if folder.is_dir() else []:
                yield path.parent.name, path


def resolve(name: str, kind: str = "model") -> Path:
    """The file that `name` means. Raises ModelError (unknown, with the nearest known name) or UsageError."""
    if name.startswith("hf://"):
        return _download(name)
    if kind == "model":
        path = Path(name).expanduser()
        if path.is_dir() and (path / "model.safetensors").exists():
            return path / "model.safetensors"
        if path.is_dir() and (path / "run.json").exists():
            raise ModelError(f"{name}: a run that has not written a model yet; wait for its first save")
        if path.is_file():
            return path
    table = dict(reversed(list(known(kind))))
    if name in table:
        if not table[name].exists():
            raise ModelError(f"{name}: {table[name]} is missing; this checkout has no weights")
        return table[name]
    if path_like(name):
        raise ModelError(f"{name}: no such model file or run folder")
    names = sorted(table)
    raise ModelError(f"unknown {kind} {name!r}{nearest(name, names)}; `genctl models` lists what can be named")


def path_like(name: str) -> bool:
    return any(mark in name for mark in ("/", "\\")) or name.endswith((".safetensors", *files.PICKLE_ENDINGS))


def check_sha256(path: Path) -> str:
    """The file's sha256; a shipped file whose bytes are not those of index.json is refused with ModelError."""
    digest = files.file_sha256(path)
    if path.parent == weights_folder():
        for name, row in index().items():
            if row["file"] == path.name and row["sha256"] != digest:
                raise ModelError(f"{name}: {path} is damaged (its sha256 is not the one of index.json); fetch it again")
    return digest


def weights_sha256(path: Path, header: files.Header) -> str:
    """What identifies a model's or part's tensors: the header's `modelspec.hash_sha256`, else the file's own hash."""
    recorded = header.metadata.get("modelspec.hash_sha256", "").removeprefix("0x")
    return recorded or files.file_sha256(path)


def load_part(name: str) -> tuple[dict[str, Any], files.Header]:
    """Tensors and header of a shipped part (text encoder, feature net), its bytes checked. Raises ModelError."""
    path = resolve(name, kind="part")
    check_sha256(path)
    return files.load_tensors(path)


def _download(name: str) -> Path:
    """hf://owner/repo[/file][@revision] -> a file of huggingface_hub's cache."""
    address, _, revision = name.removeprefix("hf://").partition("@")
    parts = address.split("/")
    if len(parts) < 2 or not all(parts):
        raise UsageError(f"{name}: wants hf://owner/repo[/file.safetensors][@revision]")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    repo, file = "/".join(parts[:2]), "/".join(parts[2:]) or "model.safetensors"
    try:
        return Path(hf_hub_download(repo, file, revision=revision or None))
    except HFValidationError as error:
        raise UsageError(f"{name}: {' '.join(str(error).split())}") from None
    except LocalEntryNotFoundError:
        raise WorldError(f"{name}: not in the cache, and the hub cannot be reached") from None
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        raise ModelError(f"{name}: not on the hub ({type(error).__name__})") from None
    except OSError as error:
        raise WorldError(f"{name}: cannot be fetched ({error})") from None
