"""What is in a data folder: any usual layout, recognised by looking.

pictures/*.png                          no captions
pictures/cat/*.png, pictures/dog/*.png  class folders (the folder's name is the caption)
pictures/a.png + pictures/a.txt         side-car captions (.txt or .caption), one variant a line; a picture without
                                        one in a class folder keeps the folder's name
pictures/metadata.jsonl or .csv         Hugging Face imagefolder: file_name, text, and optionally tags, style,
                                        group, codepoint, weight, flip (may it be mirrored?), split
{train,test}/ above any of these        the split; also val, valid, validation, dev, eval, in any case

What is not used is counted by kind, with one example each.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from genctl.data.entry import Entry, class_of, held_out, split_of, words
from genctl.data.metadata import TABLES, bounded, entries_of, tables_of
from genctl.errors import InputError
from genctl.media.folder import Found, is_about, is_text, look
from genctl.media.formats import ENDINGS
from genctl.text import cut, read_lines, short, shown


@dataclass(frozen=True)
class Listing:
    """A folder's pictures in name order, and one line that says what was understood, and what is left out."""

    folder: Path
    entries: list[Entry]
    layout: str
    notes: list[str] = field(default_factory=list)
    noun: str = "picture"
    alone: list[Path] = field(default_factory=list)  # caption files without a picture

    def summary(self) -> str:
        captioned = sum(bool(entry.captions) for entry in self.entries)
        held = sum(entry.held_out for entry in self.entries)
        parts = [f"{len(self.entries):,} {self.noun}{'' if len(self.entries) == 1 else 's'}", self.layout]
        parts += [f"{len(self.entries) - captioned:,} without a caption"] if 0 < captioned < len(self.entries) else []
        parts += [f"{held:,} held out"] if held else []
        parts += [Found(self.folder).note("caption files without a picture", self.alone)] if self.alone else []
        return ", ".join(parts + self.notes)


def scan(folder: Path, split: str = "split", endings: tuple[str, ...] = ENDINGS) -> Listing:
    """List a folder's pictures (by their names' `endings`) with captions and splits (`split`: the metadata column that
    says which is held out).

    Raises InputError that says what was found instead.
    """
    if not folder.exists():
        raise InputError(f"{shown(folder)}: no such folder; give a folder of pictures")
    if folder.is_file():
        raise InputError(f"{shown(folder)}: a file; give the folder that holds it, or a .zip or .tar of one")
    found = look(folder, endings)
    tables = tables_of(folder)
    if tables:
        return _imagefolder(found, tables, split)
    if (folder / "metadata.parquet").exists():
        raise InputError(f"{shown(folder)}/metadata.parquet: parquet is not read; save it as metadata.jsonl")
    if not found.pictures:
        names = ", ".join(sorted(shown(path.name) for path in folder.iterdir())[:5]) or "nothing"
        raise InputError(f"{shown(folder)}: no pictures (found {names}); give a folder with PNG, JPEG or WebP files")
    return _folders(found)


def _imagefolder(found: Found, tables: list[Path], split: str) -> Listing:
    """The pictures that tables name."""
    folder = found.folder
    entries, missing = [], []
    for table in tables:
        named, gone = entries_of(table, folder, split)
        entries += named
        missing += gone
    if not entries:
        what = (
            f"none of its {len(missing):,} files exists, the first: {short(missing[0])}" if missing else "names no file"
        )
        raise InputError(f"{shown(tables[0])}: {what}")
    entries.sort(key=lambda entry: str(entry.file))
    known = {os.path.normpath(entry.file) for entry in entries}
    others = [path for path in found.pictures if os.path.normpath(path) not in known]
    texts = [path for path in found.others if is_text(path) and not is_about(path)]
    elsewhere = [path for path in found.others if path.name.lower() in TABLES and path not in tables]
    notes = [f"{len(missing):,} named files missing ({cut(missing[0], 100)})"] if missing else []
    notes += [found.note(f"pictures not named in {tables[0].name}", others)] if others else []
    notes += [found.note("caption files not read", texts)] if texts else []
    notes += [found.note("further tables not read", elsewhere)] if elsewhere else []
    return Listing(folder, entries, f"captions from {tables[0].name}", notes + found.notes())


def _folders(found: Found) -> Listing:
    """Pictures in folders, with side-car captions or without."""
    folder = found.folder
    sidecars, alone, second = _sidecars(found)
    notes = [found.note("caption files beside another of the same picture", second)] if second else []
    texts = {path: read_captions(sidecars[path]) if path in sidecars else () for path in found.pictures}
    classes = {path: class_of(folder, path) for path in found.pictures}
    names = set(classes.values()) - {""}
    by_class = [path for path in found.pictures if classes[path] and not texts[path]]
    if any(texts.values()):
        kinds = sorted({path.suffix.lower() for path in sidecars.values()}, reverse=True)
        layout = f"captions from {' and '.join(kinds)} files"
        notes = ([found.note("with their folder's name as caption", by_class)] if by_class else []) + notes
    else:
        many = "1 class from its folder's name" if len(names) == 1 else f"{len(names)} classes from folder names"
        layout = many if names else "no captions"
    texts |= {path: (words(classes[path]),) for path in by_class}
    elsewhere = [path for path in found.others if path.name.lower() in TABLES]
    notes += [found.note("tables not at the top of the folder or a split, not read", elsewhere)] if elsewhere else []
    entries = [
        Entry(path, texts[path], concept=classes[path], held_out=held_out(split_of(folder, path)))
        for path in found.pictures
    ]
    return Listing(folder, entries, layout, notes + found.notes(), alone=alone)


def _sidecars(found: Found) -> tuple[dict[Path, Path], list[Path], list[Path]]:
    """The caption file of each picture that has one (`a.txt`, `a.caption` or `a.png.txt`, in any case), and what is
    left out: captions without a picture, and beside another."""
    texts: dict[str, list[Path]] = {}
    for path in found.others:
        if is_text(path):
            texts.setdefault(str(path.with_suffix("")), []).append(path)
    chosen, second, used = {}, [], set()
    for picture in found.pictures:
        mine = [path for key in (picture.with_suffix(""), picture) for path in texts.get(str(key), [])]
        mine.sort(key=lambda path: path.suffix.lower() != ".txt")
        if mine:
            chosen[picture] = mine[0]
            second += mine[1:]
            used.update(mine)
    alone = [path for paths in texts.values() for path in paths if path not in used and not is_about(path)]
    return chosen, sorted(alone), second


def read_captions(file: Path) -> tuple[str, ...]:
    """The captions of a file, one a line."""
    return bounded((line.strip() for _, line in read_lines(file) if line.strip()), shown(file))
