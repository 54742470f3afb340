"""Streams, framed by ourselves: pictures as PNG after PNG (as ffmpeg's image2pipe), codes as one safetensors document
after another. Each is given out as soon as it is whole, without reading a byte beyond it."""

from __future__ import annotations

import difflib
import io
import itertools
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from genctl import files
from genctl.errors import InputError, ModelError, UsageError
from genctl.media.codes import GIVE as GIVE_CODES
from genctl.media.folder import picture_files
from genctl.media.formats import ENDINGS
from genctl.media.pictures import GIVE
from genctl.media.png import PNG_END, PNG_START, png_chunks, read_exactly

MOST_DOCUMENT = 1 << 28  # bytes of one code document (256 MiB); what claims more is no code of a picture
MOST_FILE = 1 << 29  # bytes of one picture file; nobody's photograph, but a film with a wrong name


def split_pngs(stream: IO[bytes], name: str = "stdin") -> Iterator[bytes]:
    """The PNGs of a stream, one at a time. Raises InputError that says which picture is broken."""
    for number in itertools.count(1):
        data = b"".join(png_chunks(stream, f"{name}, picture {number}"))
        if not data:
            return
        yield data


def split_documents(stream: IO[bytes], name: str = "stdin") -> Iterator[bytes]:
    """The safetensors documents of a stream, one at a time. Raises InputError that says which one is broken."""
    for number in itertools.count(1):
        prefix = read_exactly(stream, 8)
        if not prefix:
            return
        where = f"{name}, codes {number}"
        try:
            raw = read_exactly(stream, files.header_length(prefix, where))
            header = files.parse_header(prefix, raw, where)
        except ModelError as error:
            raise InputError(f"{error}; {GIVE_CODES}") from None
        if header.data_bytes > MOST_DOCUMENT:
            claim = f"claims {header.data_bytes >> 20} MiB of tensors"
            raise InputError(f"{where}: {claim}, more than any code has; {GIVE_CODES}")
        body = read_exactly(stream, header.data_bytes)
        if len(body) < header.data_bytes:
            raise InputError(f"{where}: cut off: {len(body)} of {header.data_bytes} bytes of tensors")
        yield prefix + raw + body


def pictures_from(sources: list[str]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of each picture named: files, folders of pictures, `-` for a PNG stream on stdin.

    Raises InputError for a missing file, a folder without pictures, an empty or broken stream.
    """
    for source in sources:
        refuse_empty(source)
        if source == "-":
            yield from _stdin_pictures()
        elif os.path.isdir(Path(source)):
            for file in _inside(Path(source)):
                yield str(file), read_file(file)
        else:
            yield from _file_pictures(source)


@dataclass(frozen=True)
class Source:
    """A picture that was named, not read yet: `inside` is its path below the folder that was named, else its name."""

    name: str
    load: Callable[[], bytes]
    inside: Path


def listed(sources: list[str], endings: tuple[str, ...] = ENDINGS) -> list[Source]:
    """Every picture of the sources, as `pictures_from` gives them, without holding the files' bytes (those of a stream
    on stdin are held)."""
    return [found for source in sources for found in each(source, endings)]


def each(source: str, endings: tuple[str, ...] = ENDINGS) -> Iterator[Source]:
    """The pictures of one source, those of stdin as they come, those of a folder by their `endings`."""
    refuse_empty(source)
    path = Path(source)
    if source == "-":
        for name, data in _stdin_pictures():
            yield Source(name, partial(bytes, data), Path("codes.png"))
    elif os.path.isdir(path):
        for file in _inside(path, endings):
            yield Source(str(file), partial(read_file, file), file.relative_to(path))
    elif not os.path.exists(path):
        yield Source(source, partial(read_file, path), Path(path.name))  # which says so, among others that are there
    elif not os.path.isfile(path):  # a pipe, which can be read once
        for name, data in _file_pictures(source):
            yield Source(name, partial(bytes, data), Path(path.name))
    else:
        names = [name for name, _ in _file_pictures(source)]
        for index, name in enumerate(names):
            load = partial(_nth, source, index) if len(names) > 1 else partial(read_file, path)
            yield Source(name, load, Path(path.name))


def refuse_empty(source: str) -> None:
    """Raise UsageError for a name that is none, as an unset variable of a script gives: as a path it would be here."""
    if not source:
        raise UsageError("an empty name where a picture or folder should be")


def _nth(source: str, index: int) -> bytes:
    """One picture of a stream that was saved as a file."""
    return next(itertools.islice(_file_pictures(source), index, None))[1]


def _inside(folder: Path, endings: tuple[str, ...] = ENDINGS) -> list[Path]:
    found = picture_files(folder, endings)
    if not found:
        raise InputError(f"{folder}: no pictures in this folder; {GIVE}")
    return found


def _stdin_pictures() -> Iterator[tuple[str, bytes]]:
    number = 0
    for number, data in enumerate(split_pngs(binary_stdin()), 1):
        yield f"stdin, picture {number}", data
    if not number:
        raise InputError("stdin: empty; pipe PNG after PNG into it")


def _file_pictures(source: str) -> Iterator[tuple[str, bytes]]:
    """The picture of a file, or the pictures of a stream that was saved as a file (Pillow would see the first)."""
    data = read_file(Path(source))
    if data.startswith(PNG_START) and PNG_END + PNG_START in data:
        for number, one in enumerate(split_pngs(io.BytesIO(data), source), 1):
            yield f"{source}, picture {number}", one
    else:
        yield source, data


def codes_from(source: str) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of each code document of a file, or of stdin for `-`. Raises InputError."""
    name, empty = ("stdin" if source == "-" else source), True
    with _opened(source) as stream:
        for data in split_documents(stream, name):
            empty = False
            yield name, data
    if empty:
        raise InputError(f"{name}: empty; {GIVE_CODES}")


def _opened(source: str) -> AbstractContextManager[IO[bytes]]:
    """A source open for reading; stdin is not ours to close."""
    if source == "-":
        return nullcontext(binary_stdin())
    try:
        return opened(Path(source))
    except (OSError, ValueError) as error:
        raise _unreadable(Path(source), error) from None


def read_file(path: Path) -> bytes:
    """A file's bytes; InputError when it is missing, unreadable or larger than 512 MiB."""
    try:
        with opened(path) as file:
            data = file.read(MOST_FILE + 1)
            empty_pipe = not data and not stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if empty_pipe:
        raise InputError(f"{path}: a pipe or device that nobody writes to")
    if len(data) > MOST_FILE:
        raise InputError(f"{path}: more than {MOST_FILE >> 20} MiB; {GIVE}")
    return data


def opened(path: Path) -> IO[bytes]:
    """A file open for reading, without waiting for a pipe to get its writer. Raises OSError, ValueError."""
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if hasattr(os, "O_NONBLOCK"):  # Windows has neither
            os.set_blocking(number, True)
        return open(number, "rb")
    except BaseException:
        with suppress(OSError):
            os.close(number)
        raise


def _unreadable(path: Path, error: Exception) -> InputError:
    if not isinstance(error, FileNotFoundError):
        return InputError(f"{str(path)[:200]}: cannot be read ({getattr(error, 'strerror', None) or error})")
    try:
        beside = {other.stem: other.name for other in itertools.islice(path.parent.iterdir(), 1000)}
    except OSError:
        return InputError(f"{path}: no such file, nor is there a folder {path.parent}")
    close = difflib.get_close_matches(path.stem, beside, n=1)  # by stems: endings alone would make all names alike
    return InputError(f"{path}: no such file" + (f' (did you mean "{beside[close[0]]}"?)' if close else ""))


def binary_stdin() -> IO[bytes]:
    """stdin for bytes; UsageError when nothing is piped into it."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("-: nothing is piped into stdin; pipe pictures or codes into it")
    return sys.stdin.buffer
