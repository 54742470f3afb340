"""What commands say: results and documents on stdout, everything else on stderr; and the standard streams themselves.

Text of files (names, captions, fields, hashes) never reaches a terminal as it is: what it would obey becomes "?".
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from genctl.errors import PipeClosedError
from genctl.text import JOINERS, printable


def open_streams() -> None:
    """Put something in the place of standard streams that were closed (`2>&-`): else the next file that is opened gets
    their number, and what is meant for stderr goes to stdout. A name that is no UTF-8 is printed as the bytes it is."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)  # the lowest free number
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream, how in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # what reads a pipe wants UTF-8, whatever this machine's own is
            stream.reconfigure(errors=how) if stream.isatty() else stream.reconfigure(encoding="utf-8", errors=how)


def note(text: str, quiet: bool = False) -> None:
    """A line on stderr."""
    if not quiet:
        _print(printable(text), sys.stderr)


def line(text: str) -> None:
    """A line on stdout. Raises PipeClosedError where nobody reads any more."""
    _print(printable(text), sys.stdout)


def path(made: Path | str) -> None:
    """A file's path on stdout, byte for byte but on a terminal."""
    _print(printable(str(made)) if sys.stdout.isatty() else str(made), sys.stdout)


def document(facts: Mapping[str, Any], stream: TextIO | None = None) -> None:
    """One JSON document as a line, on stdout or another stream; what a terminal would obey, or a reader take for the
    end of a line, is written as JSON's escapes, and so are the bytes of names that are no UTF-8 (as Python reads them:
    `os.fsencode` gives them back). Other halves of characters become "?"."""
    text = re.sub("[\ud800-\udc7f\udd00-\udfff]", "?", json.dumps(finite(facts), ensure_ascii=False, allow_nan=False))
    text = "".join(mark if mark.isprintable() or mark in JOINERS else json.dumps(mark)[1:-1] for mark in text)
    _print(text, stream or sys.stdout)


def finite(value: Any) -> Any:
    """A document with null for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(text: str, stream: TextIO) -> None:
    """Raises PipeClosedError where nobody reads stdout any more; without a reader of stderr the work goes on."""
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        if stream is not sys.stderr:
            raise PipeClosedError from None
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
