"""Pictures packed as a .zip or a .tar, compressed or not: unpacked within the folder that is given and to a bounded
size. Of files that are not read the names alone are kept, so that they are counted as in any folder."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

from genctl.errors import InputError
from genctl.media.folder import SKIPPED, is_about, is_text
from genctl.media.formats import ENDINGS
from genctl.text import clean, short, shown

OPENERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
MOST_TIMES, ALWAYS = 50, 1 << 28  # what an archive may unpack to: so many times its size; 256 MiB in any case
MOST_FILE = 1 << 29  # bytes of one file
MOST_MEMBERS = 500_000
MOST_PARTS = 32  # of a member's name
PIECE = 1 << 20
Member = tuple[tuple[str, ...], Callable[[], AbstractContextManager[IO[bytes]]]]  # parts of its name, how to open it


class Budget:
    """How much an archive may still unpack to. Raises InputError, naming it, beyond."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.most = self.left = max(ALWAYS, MOST_TIMES * path.stat().st_size)

    def copy(self, source: IO[bytes], target: Path, most: int | None = None) -> None:
        """All of an open file, so that its checksum is looked at, into a new one."""
        with target.open("wb") as file:
            while piece := source.read(PIECE):
                self.left -= len(piece)
                if self.left < 0 or (most is not None and file.tell() + len(piece) > most):
                    bound = self.most if self.left < 0 else most or 0
                    raise InputError(
                        f"{shown(self.path)}: unpacks to more than {bound >> 20:,} MiB; give a folder instead"
                    )
                file.write(piece)


def is_zip(path: Path) -> bool:
    return path.name.lower().endswith(".zip")


def is_tar(path: Path) -> bool:
    return path.name.lower().endswith(TAR_ENDINGS)


def plain_tar(path: Path, into: Path) -> Path:
    """The archive itself, or its content in a file in the folder `into`, which is there once its checksum was right."""
    with path.open("rb") as file:
        start = file.read(6)
    opener = next((opener for mark, opener in OPENERS.items() if start.startswith(mark)), None)
    if opener is None:
        return path
    plain = into / "plain.tar"
    with opener(path) as packed:
        Budget(path).copy(packed, plain)
    return plain


def unpack(
    path: Path, archive: zipfile.ZipFile | tarfile.TarFile, target: Path, endings: tuple[str, ...] = ENDINGS
) -> None:  # fmt: skip
    """Write an archive's pictures, captions and tables below `target`, without the one folder that is around all, and
    empty files for what else is in it. Raises InputError for names that lead elsewhere and for one without pictures."""
    members = _zip_members(path, archive) if isinstance(archive, zipfile.ZipFile) else _tar_members(path, archive)
    members = [(parts, opened) for parts, opened in members if not any(map(_hidden, parts))]
    if not any(parts[-1].lower().endswith(endings) for parts, _ in members):
        names = ", ".join(clean("/".join(parts)) for parts, _ in members[:5]) or "nothing"
        raise InputError(f"{shown(path)}: no pictures in it (found {names}), and not cifar-10-binary.tar.gz")
    depth = _around(members)
    budget = Budget(path)
    for parts, opened in members:
        file = target.joinpath(*parts[depth:])
        file.parent.mkdir(parents=True, exist_ok=True)
        if not (file.name.lower().endswith(endings) or is_text(file) or is_about(file)):
            file.touch()
            continue
        with opened() as source:
            budget.copy(source, file, MOST_FILE)


def _hidden(part: str) -> bool:
    return part in SKIPPED or part.startswith(".")


def _around(members: list[Member]) -> int:
    """How many folders are around all members: they say nothing of any one, as the archive's own name doesn't."""
    depth = 0
    while len({parts[: depth + 1] for parts, _ in members}) == 1 and all(
        len(parts) > depth + 1 for parts, _ in members
    ):
        depth += 1
    return depth


def _parts(path: Path, name: str) -> tuple[str, ...]:
    """A member's name in parts. Raises InputError for one that leads out of the archive."""
    parts = tuple(shown(part) for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    away = name.startswith(("/", "\\")) or ".." in parts or name[1:3] in (":/", ":\\") or "\0" in name
    away = away or (os.name == "nt" and ":" in name)  # there also `a/D:b`, and another stream of a file
    if away or not 0 < len(parts) <= MOST_PARTS or any(len(part.encode()) > 255 for part in parts):
        raise InputError(f"{shown(path)}: {short(name)} in it is no name of a file within")
    return parts


def _zip_members(path: Path, archive: zipfile.ZipFile) -> list[Member]:
    found: list[Member] = []
    if len(archive.infolist()) > MOST_MEMBERS:
        raise _too_many(path)
    for info in archive.infolist():
        if not info.is_dir():
            found.append((_parts(path, _zip_name(info)), lambda info=info: archive.open(info)))  # type: ignore[misc]
    return found


def _too_many(path: Path) -> InputError:
    return InputError(f"{shown(path)}: more than {MOST_MEMBERS:,} files; give a folder instead")


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Names are UTF-8 more often than their archives say."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError:
        return info.filename


def _tar_members(path: Path, archive: tarfile.TarFile) -> list[Member]:
    found: list[Member] = []
    for number, info in enumerate(archive):
        if number >= MOST_MEMBERS:
            raise _too_many(path)
        if not info.isdir():
            found.append((_parts(path, info.name), lambda info=info: _tar_file(archive, info)))  # type: ignore[misc]
    return found


def _tar_file(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Any:
    """A file, or the one in the archive that a link names. Raises ValueError for what is neither."""
    file = archive.extractfile(info)
    if file is None:
        raise ValueError(f"{short(info.name)} is no file")
    return file
