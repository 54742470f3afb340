"""Names to files. A model's name is, in this order of looking:

    a path to a .safetensors file or a run folder (its model.safetensors)
    a shipped model, from `weights/` of a checkout or inside the installed package
    a model or run in a folder of `GENCTL_MODELS` (os.pathsep between folders), or in ./runs
    hf://owner/repo[/file.safetensors][@revision], through huggingface_hub, its cache and its offline switch

The first that is found counts; `listed` and `others` say how to name the rest. Local names never import
huggingface_hub.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genctl import files
from genctl.errors import ModelError, UsageError, WorldError, nearest
from genctl.sizes import Size

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
    return list({folder.absolute(): folder for folder in [*named, Path("runs")]}.values())


def known(kind: str = "model") -> Iterator[tuple[str, Path]]:
    """(name, file) of everything that can be named without a network."""
    for name, row in index().items():
        if row.get("kind", "model") == kind:
            yield name, weights_folder() / row["file"]
    for folder in folders():
        for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else []:
            if os.path.isfile(path) and _kind(path) == kind:
                yield path.stem, path
        for path in sorted(folder.glob("*/model.safetensors")) if kind == "model" and folder.is_dir() else []:
            yield path.parent.name, path


def _kind(path: Path) -> str:
    """What a file says that it is: a model, or a part of such; a model where it says nothing."""
    try:
        return str(files.read_header(path).document.get("kind", "model"))
    except (ModelError, RecursionError):
        return "model"  # to be named as one, and refused with what is wrong with it


def typed(path: Path) -> str:
    """What to type for the model file at `path`, wherever its plain name leads."""
    return str(path.parent if path.name == "model.safetensors" else path)


def listed() -> list[tuple[str, Path]]:
    """`known`, each by what must be typed to get it: its name, or its path where the name means an earlier one."""
    rows: dict[str, Path] = {}
    for name, path in known():
        rows[typed(path) if name in rows else name] = path
    return list(rows.items())


def others(name: str) -> list[str]:
    """What to type for the models of this name that it does not mean, as an earlier one has it too."""
    same = [path for known_name, path in known() if known_name == name]
    return [typed(path) for path in same[1:]] if same and resolve(name) == same[0] else []


def resolve(name: str, kind: str = "model") -> Path:
    """The file that `name` means. Raises ModelError (unknown, with the nearest known name) or UsageError."""
    if kind == "model":
        if name.startswith("hf://"):
            return _download(name)
        path = Path(os.path.expanduser(name))
        if os.path.isfile(path):
            return path
        if os.path.isfile(path / "model.safetensors"):
            return path / "model.safetensors"
        if os.path.isfile(path / "run.json"):
            raise ModelError(f"{name}: a run that has not written a model yet; wait for its first save")
        if os.path.exists(path) and not os.path.isdir(path):
            raise ModelError(f"{name}: a device, pipe or socket; a model is a regular file")
    found = next((path for other, path in known(kind) if other == name), None)  # headers are read as far as it takes
    if found is not None:
        if not found.exists():
            raise ModelError(f"{name}: {found} is missing; this checkout has no weights")
        return found
    if path_like(name):
        raise ModelError(f"{name[:200]}: no such model file or run folder")
    names = sorted({other for other, _ in known(kind)})
    near = nearest(name[:200], names)
    raise ModelError(f"unknown {kind} {name[:200]!r}{near}; `genctl models` lists what can be named")


def resolve_part(part: str, name: str, owner: Path | None, trusted: bool = False) -> Path:
    """The model `name` that the one in the file `owner` has as its `part`: as `resolve`, else beside that file or in a
    folder above it, so that a model used from elsewhere finds the codec it was trained with. A file that names what is
    to be fetched, or lies elsewhere, must be `trusted`; else ModelError."""
    if owner is not None and not trusted and leads_elsewhere(name):
        where = f"{typed(owner)}: names the {part} {name[:200]!r}"
        raise ModelError(f"{where}, which is to be fetched or lies elsewhere; --trust follows it")
    try:
        return resolve(name)
    except ModelError:
        if owner is None or name.startswith("hf://"):
            raise
    for folder in owner.absolute().parents:
        for path in (folder / name / "model.safetensors", folder / name, folder / f"{name}.safetensors"):
            if path.is_file():
                return path
    raise ModelError(
        f"{typed(owner)}: wants the {part} {name!r}, which is neither here nor beside that file nor in a folder above "
        "it; copy it there, or run where it can be named"
    )


def leads_elsewhere(name: str) -> bool:
    """Whether a name within a file is an address, or a path that leaves the folders where models are looked for."""
    path = Path(name)
    return "://" in name or path.is_absolute() or name.startswith("~") or ".." in path.parts or "\\" in name


def path_like(name: str) -> bool:
    return any(mark in name for mark in ("/", "\\")) or name.endswith((".safetensors", *files.PICKLE_ENDINGS))


def plain_name(name: str) -> str:
    """What files say of a model that was named so: the last part of a path, never a path of this machine."""
    if not path_like(name):
        return name
    *folders, last = [part for part in re.split(r"[/\\]", name) if part] or [name]
    if last == "model.safetensors" and folders:
        return folders[-1]
    return last.removesuffix(".safetensors")


def read_document(path: Path) -> tuple[dict[str, Any], files.Header]:
    """What the model or part at `path` says of itself, and its header; without torch. Raises ModelError for any other
    file, and for a header that genctl cannot have written."""
    header = files.read_header(path)
    document = header.document
    if "part" not in document and "family" not in document:
        what = document.get("kind", "a safetensors file of another tool, or a damaged one")
        raise ModelError(f"{path}: not a genctl model, but {what}")
    wrong = next(_not_sensible(document), None)
    if wrong is not None:
        raise ModelError(f"{path}: damaged (its header says nothing sensible of {wrong!r})")
    for part, row in document.get("parts", {}).items():
        if isinstance(row, dict) and document.get("config", {}).get(part, row) == row.get("name"):
            document["config"][part] = row["name"] = now_called(row.get("name"), row.get("sha256"))
    return document, header


NEEDED = {"format": int, "family": str, "can": list, "config": dict, "pixels": (int, str)}  # of a model
KNOWN: dict[str, Any] = {  # of a model or a part, where they are said
    "part": str, "licence": str, "title": str, "prompts": list, "words": list, "data": dict, "training": dict,
    "figures": dict, "parts": dict, "teacher": dict, "classes": list,
}  # fmt: skip


def _not_sensible(document: dict[str, Any]) -> Iterator[str]:
    """Keys of a header's document whose values are of no type that genctl writes."""
    needed: dict[str, Any] = {} if "part" in document else NEEDED
    yield from (key for key, kind in needed.items() if not _is(document.get(key), kind))
    yield from (key for key, kind in KNOWN.items() if key in document and not _is(document[key], kind))
    yield from (
        key for key in ("can", "prompts", "words") if not all(isinstance(one, str) for one in document.get(key, []))
    )
    data, teacher = document.get("data", {}), document.get("teacher", {})
    inner = {"data.settings": data.get("settings", {}), "teacher.settings": teacher.get("settings", {})}
    inner |= {f"parts.{name}": row for name, row in document.get("parts", {}).items()}
    yield from (key for key, value in inner.items() if not isinstance(value, dict))
    hashes = [row.get("sha256", "") for row in document.get("parts", {}).values()]
    if not all(isinstance(one, str) for one in hashes):
        yield "parts"
    if "part" not in document and not _size(document["pixels"], document["config"].get("pixels")):
        yield "pixels"


def _is(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _size(value: Any, configured: Any) -> bool:
    """Whether a value is a size of pictures, and that of the configuration where it says one."""
    try:
        size = Size.of(value)
        return configured is None or size == Size.of(configured)
    except (TypeError, ValueError):
        return False


def check_sha256(path: Path) -> str:
    """The file's sha256; a shipped file whose bytes are not those of index.json is refused with ModelError."""
    digest = files.file_sha256(path)
    if path.parent == weights_folder():
        for name, row in index().items():
            if row["file"] == path.name and row["sha256"] != digest:
                raise ModelError(f"{name}: {path} is damaged (its sha256 is not the one of index.json); fetch it again")
    return digest


def now_called(name: Any, tensors: Any) -> Any:
    """The name of the shipped file whose tensors have this hash, where `name` is one that has others by now: a codec
    that is replaced keeps its flows by a name of its own."""
    shipped = index()
    if not isinstance(name, str) or shipped.get(name, {}).get("tensors", tensors) == tensors:
        return name
    return next((other for other, row in shipped.items() if row.get("tensors") == tensors), name)


def weights_sha256(path: Path, header: files.Header) -> str:
    """What identifies a model's or part's tensors: the header's `modelspec.hash_sha256`, else the file's own hash."""
    recorded = header.metadata.get("modelspec.hash_sha256", "").removeprefix("0x")
    return recorded or files.file_sha256(path)


def load_part(name: str) -> tuple[dict[str, Any], files.Header]:
    """Tensors and header of a part (text encoder, feature net), the bytes of a shipped one checked. Raises
    ModelError."""
    path = resolve(name, kind="part")
    check_sha256(path)
    return files.load_tensors(path)


def _download(name: str) -> Path:
    """hf://owner/repo[/file][@revision] -> a file of huggingface_hub's cache."""
    address, _, revision = name.removeprefix("hf://").partition("@")
    parts = address.split("/")
    if len(parts) < 2 or not all(parts):
        raise UsageError(f"{name}: wants hf://owner/repo[/file.safetensors][@revision]")
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    repo, file = "/".join(parts[:2]), "/".join(parts[2:]) or "model.safetensors"
    where: dict[str, Any] = {"repo_id": repo, "filename": file, "revision": revision or None}
    try:
        if not isinstance(try_to_load_from_cache(**where), str) and not _hub_answers(where):
            raise LocalEntryNotFoundError("no answer")
        return Path(hf_hub_download(**where))
    except HFValidationError as error:
        raise UsageError(f"{name}: {' '.join(str(error).split())}") from None
    except LocalEntryNotFoundError:
        raise WorldError(f"{name}: not in the cache, and the hub cannot be reached") from None
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        raise ModelError(f"{name}: not on the hub ({type(error).__name__})") from None
    except OSError as error:
        raise WorldError(f"{name}: cannot be fetched ({error})") from None


def _hub_answers(where: dict[str, Any]) -> bool:
    """Whether the hub says anything, asked once: hf_hub_download would ask for 23 s where there is no network."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(**where))
    except HfHubHTTPError:
        return True
    except Exception:  # of requests, httpx or httpx2: huggingface_hub has moved from one to the next
        return False
    return True
