"""What is in a data folder: any usual layout, recognised by looking.

pictures/*.png                          no captions
pictures/cat/*.png, pictures/dog/*.png  class folders (the folder's name is the caption)
pictures/a.png + pictures/a.txt         side-car captions, one variant a line
pictures/metadata.jsonl or .csv         Hugging Face imagefolder: file_name, text, and optionally tags, style,
                                        group, codepoint, weight, split
{train,test}/ above any of these        the split
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genctl.errors import InputError
from genctl.media.pictures import picture_files

HELD_OUT = {"test", "val", "valid", "validation"}
SPLITS = HELD_OUT | {"train"}


@dataclass(frozen=True)
class Entry:
    """One picture: its file, what it shows, and which split it belongs to."""

    file: Path
    captions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    style: str = ""
    concept: str = ""  # what identifies the thing shown across styles
    group: str = ""
    weight: float = 1.0
    held_out: bool = False


@dataclass(frozen=True)
class Listing:
    """A folder's pictures in name order, and one line that says what was understood."""

    folder: Path
    entries: list[Entry]
    layout: str
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        captioned = sum(bool(entry.captions) for entry in self.entries)
        held = sum(entry.held_out for entry in self.entries)
        parts = [f"{len(self.entries):,} pictures", self.layout]
        parts += [f"{len(self.entries) - captioned:,} without a caption"] if 0 < captioned < len(self.entries) else []
        parts += [f"{held:,} held out"] if held else []
        return ", ".join(parts + self.notes)


def scan(folder: Path, split: str = "split") -> Listing:
    """List a folder's pictures with captions and splits (`split`: the metadata column that says which is held out).

    Raises InputError that says what was found instead.
    """
    if not folder.exists():
        raise InputError(f"{folder}: no such folder; give a folder of pictures")
    if folder.is_file():
        raise InputError(f"{folder}: a file; give the folder that holds it")
    tables = [table for part in (folder, *(folder / name for name in sorted(SPLITS))) for table in _tables(part)]
    if tables:
        return _imagefolder(folder, tables, split)
    if (folder / "metadata.parquet").exists():
        raise InputError(f"{folder}/metadata.parquet: parquet is not read; save it as metadata.jsonl")
    paths = picture_files(folder)
    if not paths:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise InputError(f"{folder}: no pictures (found {names}); give a folder with PNG, JPEG, WebP or GIF files")
    classes = {_class_of(folder, path) for path in paths}
    texts = {path: _sidecar(path) for path in paths}
    if any(texts.values()):
        layout = "captions from .txt files"
    elif classes - {""}:
        layout = f"{len(classes - {''})} classes from folder names"
        texts = {path: (_words(_class_of(folder, path)),) if _class_of(folder, path) else () for path in paths}
    else:
        layout = "no captions"
    entries = [
        Entry(path, texts[path], concept=_class_of(folder, path), held_out=_split(folder, path) in HELD_OUT)
        for path in paths
    ]
    return Listing(folder, entries, layout)


def _tables(folder: Path) -> list[Path]:
    return [folder / name for name in ("metadata.jsonl", "metadata.csv") if (folder / name).exists()][:1]


def _imagefolder(folder: Path, tables: list[Path], split: str) -> Listing:
    entries, missing = [], 0
    for table in tables:
        inside = table.parent.name if table.parent != folder else "train"  # of train/metadata.jsonl
        for number, row in enumerate(_rows(table), 1):
            if not isinstance(row, dict) or "file_name" not in row:
                raise InputError(f"{table}: row {number} has no file_name")
            file = table.parent / str(row["file_name"])
            if not file.resolve().is_relative_to(folder.resolve()):
                raise InputError(f"{table}: row {number} names a file outside the folder ({row['file_name']})")
            if file.exists():
                entries.append(_entry(file, {split: inside} | row, split, f"{table}: row {number}"))
            else:
                missing += 1
    if not entries:
        raise InputError(f"{tables[0]}: none of its {missing} files exists")
    entries.sort(key=lambda entry: str(entry.file))
    notes = [f"{missing} named files missing"] if missing else []
    return Listing(folder, entries, f"captions from {tables[0].name}", notes)


def _rows(table: Path) -> list[Any]:
    try:
        if table.suffix == ".csv":
            with table.open(encoding="utf-8", newline="") as file:
                return list(csv.DictReader(file))
        return [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read ({error})") from None


def _entry(file: Path, row: dict[str, Any], split: str, where: str) -> Entry:
    text, tags = row.get("text") or row.get("caption") or "", row.get("tags") or []
    if isinstance(tags, str):
        tags = [tag.strip() for tag in tags.split(",") if tag.strip()]
    return Entry(
        file,
        (str(text),) if text else (),
        tuple(map(str, tags)),
        str(row.get("style") or ""),
        str(row.get("codepoint") or text),
        str(row.get("group") or ""),
        _weight(row.get("weight"), where),
        str(row.get(split) or "train") in HELD_OUT,
    )


def _weight(value: Any, where: str) -> float:
    """How often a row is drawn, 1 where nothing is said. Raises InputError for anything but a number from 0 up."""
    try:
        weight = 1.0 if value in (None, "") else float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise InputError(f"{where}: weight {value!r} is not a number from 0 up")
    return weight


def _split(folder: Path, path: Path) -> str:
    first = path.relative_to(folder).parts[0]
    return first if first in SPLITS and path.parent != folder else "train"


def _class_of(folder: Path, path: Path) -> str:
    parts = path.relative_to(folder).parts[:-1]
    return "/".join(parts[1:] if parts and parts[0] in SPLITS else parts)


def _words(name: str) -> str:
    return name.replace("/", " ").replace("_", " ").replace("-", " ").strip()


def _sidecar(path: Path) -> tuple[str, ...]:
    text = path.with_suffix(".txt")
    if not text.exists():
        return ()
    lines = text.read_text(encoding="utf-8", errors="replace").splitlines()
    return tuple(line.strip() for line in lines if line.strip())
