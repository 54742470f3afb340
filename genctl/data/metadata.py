"""Hugging Face's imagefolder tables, metadata.jsonl and metadata.csv: a row a picture. A table is anybody's file: each
value is checked, and what cannot be is an InputError that names the table and the line."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from genctl.data.entry import Entry, held_out, split_folders
from genctl.errors import InputError
from genctl.text import clean, parse_json, read_lines, short, shown

TABLES = ("metadata.jsonl", "metadata.csv")
MOST_TEXTS = 1000  # captions or tags of one picture
MOST_CHARACTERS = 10_000  # of one; a text encoder sees the first hundreds
Row = dict[str, Any]


def tables_of(folder: Path) -> list[Path]:
    """The table of a folder and those of its splits."""
    places = [folder, *split_folders(folder)]
    found = [[place / name for name in TABLES if (place / name).is_file()] for place in places]
    return [first for first, *_ in filter(None, found)]


def entries_of(table: Path, folder: Path, split: str) -> tuple[list[Entry], list[str]]:
    """The pictures of a table, and the names of those that are not there. `split`: the column that says what is held
    out; a table within a split's folder belongs to that split. Raises InputError."""
    inside = table.parent.name if table.parent != folder else "train"
    entries, missing = [], []
    for where, row in _rows(table):
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            raise InputError(f"{where} has no file_name" if not name else f"{where}: file_name is {short(name)}")
        file = _inside(folder, table, name, where)
        if file is None:
            missing.append(clean(name))
        else:
            entries.append(_entry(file, {split: inside} | row, split, where))
    return entries, missing


def _inside(folder: Path, table: Path, name: str, where: str) -> Path | None:
    """The named file, where there is one. Its name leads nowhere else than into the folder; links there may."""
    file = Path(os.path.normpath(table.parent.absolute() / name))
    top = os.path.normpath(folder.absolute())
    if not file.is_relative_to(top):
        raise InputError(f"{where} names a file outside the folder ({short(name)})")
    try:
        return folder / file.relative_to(top) if file.is_file() else None
    except (OSError, ValueError):  # a name that is too long, that holds a NUL, links in a circle
        return None


def _rows(table: Path) -> Iterator[tuple[str, Row]]:
    """(where, row) of each row; where is for error lines."""
    if table.suffix == ".csv":
        yield from _csv_rows(table)
        return
    for number, line in read_lines(table):
        if line.strip():
            where = f"{shown(table)}: line {number}"
            row = parse_json(line, where)
            if not isinstance(row, dict):
                raise InputError(f"{where} has no file_name (it is {short(row)})")
            yield where, row


def _csv_rows(table: Path) -> Iterator[tuple[str, Row]]:
    reader = csv.reader((line + "\n" for _, line in read_lines(table)), strict=True)
    columns: list[str] = []
    try:
        for cells in reader:
            where = f"{shown(table)}: line {reader.line_num}"
            if cells and not columns:
                columns = [cell.strip() for cell in cells]
                if len(set(columns)) < len(columns):
                    raise InputError(f"{where}: two columns of one name among {short(columns)}")
                if "file_name" not in columns:
                    raise InputError(f"{where}: no column file_name, but {short(columns)} (commas part them)")
            elif len(cells) > len(columns):
                raise InputError(f"{where}: {len(cells)} cells in {len(columns)} columns; quote texts with commas")
            elif cells:
                yield where, dict(zip(columns, cells, strict=False))
    except csv.Error as error:
        raise InputError(f"{shown(table)}: line {reader.line_num}: no CSV ({error})") from None


def _entry(file: Path, row: Row, split: str, where: str) -> Entry:
    key = next((key for key in ("text", "caption") if row.get(key) not in (None, "", [])), "text")
    captions = _texts(row, key, where)
    style, codepoint, group = ("".join(_texts(row, key, where)[:1]) for key in ("style", "codepoint", "group"))
    belongs = "".join(_texts(row, split, where)[:1])
    return Entry(
        file, captions, _texts(row, "tags", where), style, codepoint or "".join(captions[:1]), group,
        _weight(row.get("weight"), where), held_out(belongs), _flag(row, "flip", True, where),
        _flag(row, "loop", False, where),
    )  # fmt: skip


def _texts(row: Row, key: str, where: str) -> tuple[str, ...]:
    """The texts under a key: one, or of captions and tags several, as a list (tags also with commas); a number is a
    text. Raises InputError for anything else."""
    said = row.get(key)
    several = key in ("text", "caption", "tags")
    values = said if isinstance(said, list) and several else [] if said is None else [said]
    if not all(isinstance(value, (str, int, float)) and not isinstance(value, bool) for value in values):
        wanted = "a text or a list of texts" if several else "a text"
        raise InputError(f"{where}: {key} is {short(said)}; it wants {wanted}")
    texts = [clean(str(value)).strip() for value in values]
    if key == "tags" and isinstance(said, str):
        texts = [text.strip() for text in texts[0].split(",")]
    return bounded(filter(None, texts), f"{where}: {key}")


def bounded(texts: Iterable[str], where: str) -> tuple[str, ...]:
    """The texts of one picture. Raises InputError, beginning with `where`, for too many or too long ones."""
    made = tuple(texts)
    if len(made) > MOST_TEXTS:
        raise InputError(f"{where}: {len(made):,} texts of one picture; at most {MOST_TEXTS:,}")
    longest = max(map(len, made), default=0)
    if longest > MOST_CHARACTERS:
        raise InputError(f"{where}: a text of {longest:,} characters; at most {MOST_CHARACTERS:,}")
    return made


def _flag(row: Row, key: str, usual: bool, where: str) -> bool:
    """What a row says under a key, or what is usual. Raises InputError for anything but true and false."""
    value = row.get(key)
    said = str(value).lower()
    if value in (None, ""):
        return usual
    if said not in ("true", "1", "false", "0"):
        raise InputError(f"{where}: {key} {short(value)} is not true or false")
    return said in ("true", "1")


def _weight(value: Any, where: str) -> float:
    """How often a row is drawn, 1 where nothing is said. Raises InputError for anything but a number from 0 up."""
    try:
        weight = 1.0 if value in (None, "") else math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise InputError(f"{where}: weight {short(value)} is not a number from 0 up")
    return weight
