"""One picture of a data folder, and what its folder's name says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genctl.text import shown

HELD_OUT = {"test", "val", "valid", "validation", "dev", "eval"}
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
    flips: bool = True  # whether it may be mirrored: nothing that is read, and nothing said to be left or right
    loops: bool = False  # of a clip: whether after its last frame comes the first
    frames: tuple[Path, ...] = ()  # of a clip in files of its own, which lie in the folder `file`


def held_out(split: str) -> bool:
    """Whether a split of this name, in whatever case, is not trained on."""
    return split.strip().lower() in HELD_OUT


def split_folders(folder: Path) -> list[Path]:
    """The folders in it that are splits by their names."""
    return sorted(path for path in folder.iterdir() if path.name.lower() in SPLITS and path.is_dir())


def split_of(folder: Path, path: Path) -> str:
    """The split that a picture of the folder lies in, or nothing."""
    first = path.relative_to(folder).parts[0].lower()
    return first if first in SPLITS and path.parent != folder else ""


def class_of(folder: Path, path: Path) -> str:
    """The folders that a picture lies in, but for the split: `cat`, `animals/cat`, or nothing."""
    parts = path.relative_to(folder).parts[:-1]
    return shown("/".join(parts[1:] if split_of(folder, path) else parts))


def words(name: str) -> str:
    """A class folder's name as a caption."""
    return name.replace("/", " ").replace("_", " ").replace("-", " ").strip()
