"""Files written whole: old or new, never part; and names of files that may be no names at all."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from genctl.errors import WorldError

ABANDONED = 600  # seconds after which nobody writes into a temporary file any more
HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def write_whole(path: Path, content: bytes | Callable[[IO[bytes]], None], replace: bool = True) -> None:
    """Write a file through a temporary name in its folder, fsync, rename: a crash leaves the old file or the new one.

    Raises WorldError when the disk is full or the folder cannot be written; nothing half-written stays. Not to
    `replace`: FileExistsError where the name is taken by then, by whatever process.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # also FileExistsError, of a file or a link to nowhere in the folder's place
        why = "what is where its folder should be is none" if isinstance(error, FileExistsError) else error.strerror
        raise WorldError(f"{path}: cannot be written ({why or error}); nothing was changed") from None
    try:
        clear_leftovers(path.parent.absolute())
        prefix = f".{short_name(path.name)}.{HOST}-{os.getpid()}-"  # known for ours once we are gone
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=prefix, delete=False) as file:
            temporary = Path(file.name)
            if callable(content):
                content(file)  # type: ignore[arg-type]
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        if replace:
            temporary.replace(path)
            temporary = None
        else:
            _claim(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:
        raise WorldError(f"{path}: cannot be written ({error.strerror or error}); nothing was changed") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_new(path: Path, content: bytes, force: bool = False) -> Path:
    """Write a file whole under a name that is free, or with `force` in any case, and return its path: where another
    process has taken the name meanwhile, a number is appended to it, so that no work is lost. Raises WorldError."""
    candidate, number = path, 1
    while True:
        try:
            write_whole(candidate, content, replace=force)
            return candidate
        except FileExistsError:
            number += 1
            candidate = path.with_stem(f"{path.stem}-{number}")


def _claim(temporary: Path, path: Path) -> None:
    """Give a finished file its name. Raises FileExistsError where the name is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with path.open("xb"):
            try:
                temporary.replace(path)
            except OSError:
                path.unlink(missing_ok=True)  # nothing was written into it
                raise


def short_name(name: str, most: int = 80) -> str:
    """The beginning of a file name, at most so many bytes."""
    return os.fsencode(name)[:most].decode("utf-8", "ignore")


@functools.cache
def clear_leftovers(folder: Path) -> None:
    """Remove the temporary files in a folder of processes of this machine that were killed; once a process."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            match = re.fullmatch(rf"\..*\.{HOST}-([0-9]+)-[^.]*", entry.name, re.DOTALL)
            if match and not _runs(int(match[1])):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat().st_mtime > ABANDONED:  # containers of one host name have own numbers
                        os.unlink(entry.path)


def _runs(process: int) -> bool:
    """Whether a process of this machine still runs, as far as one can ask."""
    if os.name == "nt":
        return True  # there signal 0 is Ctrl-C
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
