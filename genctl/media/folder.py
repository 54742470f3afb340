"""What lies under a folder: its pictures, its other files, and what could not be looked at. A linked folder is followed
once, under its own name where the folder itself lies elsewhere; a folder is never looked at twice, so loops end."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from genctl.errors import InputError
from genctl.media.formats import ENDINGS
from genctl.text import shown

SKIPPED = {"Thumbs.db", "desktop.ini", "__MACOSX", ".ipynb_checkpoints"}
ABOUT = ("readme", "license", "licence", "attribution", "metadata")  # stems of files about a set as a whole
TEXTS = (".txt", ".caption")
ONE = {
    "files": "file", "pictures": "picture", "tables": "table", "folders that are": "folder that is",
    "folders": "folder", "links that lead": "link that leads", "devices, pipes or sockets": "device, pipe or socket",
    "their": "its",
}  # fmt: skip
NAMED = 6  # kinds of files that a line names; of more it says how many


@dataclass
class Found:
    """Under `folder`: pictures and other files, both by name, and what was passed over for each reason."""

    folder: Path
    pictures: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    passed: dict[str, list[Path]] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """What is left out, a part of a line each kind: how many, which, and one example. Captions and files about the
        set as a whole are not counted."""
        kinds: dict[str, list[Path]] = {}
        for path in self.others:
            if not (is_about(path) or is_text(path)):
                kinds.setdefault(path.suffix.lower() or "without an ending", []).append(path)
        by_count = sorted(kinds, key=lambda kind: (-len(kinds[kind]), kind))
        said = [self.note(f"{kind} not read", kinds[kind]) for kind in by_count[:NAMED]]
        rest = [path for kind in by_count[NAMED:] for path in kinds[kind]]
        said += [self.note("files of other kinds not read", rest)] if rest else []
        return said + [self.note(reason, paths) for reason, paths in self.passed.items()]

    def note(self, what: str, paths: list[Path]) -> str:
        """`2 .svg not read (b/c.svg)`."""
        if len(paths) == 1:
            what = next((what.replace(many, one) for many, one in ONE.items() if many in what), what)
        return f"{len(paths):,} {what} ({shown(paths[0].relative_to(self.folder))})"


def is_text(path: Path) -> bool:
    """Whether a file may be the caption of a picture."""
    return path.suffix.lower() in TEXTS


def is_about(path: Path) -> bool:
    """Whether a file by its name is about the set as a whole."""
    return path.stem.lower() in ABOUT and path.suffix.lower() in ("", ".md", ".txt", ".csv", ".jsonl")


def look(folder: Path, endings: tuple[str, ...] = ENDINGS) -> Found:
    """What lies under a folder, pictures by the `endings` of their names; dot-files and what systems leave behind are
    passed over. Raises InputError for a folder that cannot be read."""
    found, seen = Found(folder), set[tuple[int, int]]()
    waiting, linked = [folder], list[Path]()
    while waiting or linked:
        here = waiting.pop() if waiting else linked.pop(0)  # what lies here itself comes before what is linked
        try:
            about = here.stat()
            if (about.st_dev, about.st_ino) in seen:
                found.passed.setdefault("linked folders that are in it already", []).append(here)
                continue
            seen.add((about.st_dev, about.st_ino))
            inside = sorted(os.scandir(here), key=lambda one: one.name)
        except OSError as error:
            if here == folder:
                raise InputError(f"{shown(folder)}: cannot be read ({error.strerror})") from None
            found.passed.setdefault("folders that cannot be read", []).append(here)
            continue
        for one in inside:
            if not (one.name in SKIPPED or one.name.startswith(".")):
                _sort(Path(here, one.name), one, found, waiting, linked, endings)
    found.pictures.sort()
    found.others.sort()
    return found


def _sort(
    path: Path, one: os.DirEntry[str], found: Found, waiting: list[Path], linked: list[Path], endings: tuple[str, ...]
) -> None:
    """Put one entry of a folder where it belongs."""
    try:
        folder, file = one.is_dir(), one.is_file()
    except OSError:  # links in a circle
        folder, file = False, False
    if folder:
        (linked if one.is_symlink() else waiting).append(path)
    elif not file:
        what = "links that lead nowhere" if one.is_symlink() else "devices, pipes or sockets"
        found.passed.setdefault(what, []).append(path)
    else:
        (found.pictures if path.suffix.lower() in endings else found.others).append(path)


def picture_files(folder: Path, endings: tuple[str, ...] = ENDINGS) -> list[Path]:
    """Picture files under a folder, by name. Raises InputError for a folder that cannot be read."""
    return look(folder, endings).pictures
