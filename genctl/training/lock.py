"""Who trains in a folder. The lock is the system's own (flock) on the file `lock`, which says the holder's pid and
host; it goes with the process that holds it. Where there is none (Windows, some network file systems), runs are not
guarded."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genctl.errors import UsageError, WorldError
from genctl.text import printable

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = "lock"


class Lock:
    """The lock of one run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / LOCK

    def refuse_second(self) -> None:
        """Raise WorldError where another process holds the lock by now."""
        if fcntl is not None and os.path.lexists(self.path):
            with self._opened() as descriptor:
                self._take(descriptor, fcntl.LOCK_SH)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock of the folder, which is made where there is none. Raises WorldError where another has it."""
        with self._held() as descriptor:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()} trains here".encode())
            try:
                yield
            finally:
                os.ftruncate(descriptor, 0)

    @contextmanager
    def _held(self) -> Iterator[int]:
        """The descriptor of the lock once it is ours; of the file that is there by now, should another process have
        removed the one that we opened."""
        while True:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise WorldError(f"{self.folder}: cannot be made ({error.strerror})") from None
            with contextlib.suppress(FileNotFoundError), self._opened(os.O_CREAT) as descriptor:
                if fcntl is not None:
                    self._take(descriptor, fcntl.LOCK_EX)
                if fcntl is None or os.path.samestat(os.fstat(descriptor), os.lstat(self.path)):
                    yield descriptor
                    return

    @contextmanager
    def _opened(self, flags: int = 0) -> Iterator[int]:
        """The lock file's descriptor; never that of what a link points to."""
        flags |= os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            descriptor = os.open(self.path, flags, 0o666)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EPERM):
                raise WorldError(f"{self.path}: cannot be written ({error.strerror})") from None
            said = "a link" if error.errno == errno.ELOOP else error.strerror
            raise UsageError(
                f"{self.path}: cannot be the lock of a run ({said}); remove it, or give another -o"
            ) from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"{self.path}: cannot be the lock of a run (no plain file); remove it")
            yield descriptor
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int, how: int) -> None:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            said = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            holder = printable(said) or "another process trains here"
            raise WorldError(f"{self.folder}: {holder}; stop it first, or give another -o") from None
        except OSError:  # a file system without locks: not guarded
            pass
