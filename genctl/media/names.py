"""Where results go: `-o` as people mean it, decided and checked before any work.

(nothing)        PROMPT-SEED.png in the current folder, never over an existing file (a number is appended)
a.png            that file, its ending picks the format; an existing one is replaced only by force
'out-{i:04d}.png' a template of {seed} {i} {prompt} {model}, and of the options such as {cfg} {steps}
folder/          one file a picture
-                stdout, PNG after PNG; of a clip -.mp4 and the like, one film
"""

from __future__ import annotations

import importlib.util
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genctl.errors import UsageError, WorldError, nearest

FORMATS = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif"}
CLIPS = {".webp": "webp", ".gif": "gif", ".png": "png", ".apng": "png", ".mp4": "mp4", ".webm": "webm"}
FILMS = ("mp4", "webm")
PORTS = tuple("0123456789¹²³")  # Windows takes COM¹ for a port as well
RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    "conin$",
    "conout$",
    *(kind + port for kind in ("com", "lpt") for port in PORTS),
}
MARKS = set(",.+=@#%&()'-_")  # of ASCII, beside letters and digits: safe on every system and in most shells
JOINERS = "\u200c\u200d"  # within Persian words, and within an emoji of several
SKIPS = ", --skip-existing goes on with what is not there yet"
EDGES = "-. " + JOINERS


@dataclass(frozen=True)
class Result:
    """What is known of a picture before it exists."""

    i: int = 0
    seed: int | str = 0
    prompt: str = ""
    model: str = ""
    further: Mapping[str, Any] = field(default_factory=dict)  # fields of a template, beside these
    swept: str = ""  # what tells it from the others of its seed and prompt
    clip: bool = False

    @property
    def own_name(self) -> str:
        """Its name where none is asked for."""
        more = f"-{safe(self.swept)}" if self.swept else ""
        return f"{safe(self.prompt or self.model)}-{self.seed}{more}{'.webp' if self.clip else '.png'}"


def safe(text: str, most: int = 60) -> str:
    """Text as one part of a file name: no separator, control, leading dot or reserved name; `most` bytes of UTF-8.

    Any script stays readable; a run of what cannot stay becomes one "-". Empty text becomes "sample".
    """
    text = unicodedata.normalize("NFC", text[: 8 * most])  # macOS would take two spellings of one text for one name
    text = re.sub("-{2,}", "-", "".join(mark if _kept(mark) else "-" for mark in text)).strip(EDGES)
    text = f"_{text}" if text.split(".")[0].lower() in RESERVED else text
    return text.encode()[:most].decode(errors="ignore").strip(EDGES) or "sample"


def _kept(mark: str) -> bool:
    if mark.isascii():
        return mark.isalnum() or mark in MARKS
    return unicodedata.category(mark)[0] in "LMNSP" or mark in JOINERS


def format_of(path: Path, clips: bool = False) -> str:
    """The format that a name's ending picks, of a picture or of a clip. Raises UsageError."""
    known = CLIPS if clips else FORMATS
    form = known.get(path.suffix.lower())
    if form is None:
        what = f"unknown ending {path.suffix!r}"
        what = "for clips, and this is a picture" if path.suffix.lower() in CLIPS else what
        raise UsageError(f"-o {path}: {what}; use {', '.join(known)}, a folder, or -")
    if form in FILMS and importlib.util.find_spec("av") is None:
        raise UsageError(f"-o {path}: films need pip install 'genctl[video]'; or give a .webp or .gif")
    return form


def stream_of(out: str | None) -> str | None:
    """The format of what goes to stdout: PNG after PNG for `-`, one film or animation for `-.mp4`; None for files.
    Raises UsageError."""
    if out == "-":
        return "frames"
    return format_of(Path(f"clip{out[1:]}"), clips=True) if out is not None and out.startswith("-.") else None


def hundredths(milliseconds: int) -> int:
    """The time nearest to this that a frame of a GIF can have, which counts in hundredths of a second."""
    return max(10, (milliseconds + 5) // 10 * 10)


def plan(
    out: str | None,
    results: list[Result],
    force: bool,
    instead: str = "a folder",
    existing: bool = False,
    resumes: bool = False,
) -> list[Path]:
    """The path of each result, with nothing written yet. Raises UsageError for a name that cannot work (for several
    pictures into one file, saying what to give `instead`), WorldError for a folder that cannot be written. `existing`:
    a file that is there already is no obstacle, and keeps its name. `resumes`: the command has --skip-existing."""
    own = [result.own_name for result in results]
    if out == "":
        raise UsageError("-o: empty; give a file name, a folder, or -")
    if out is None:
        paths = (unique_within if existing else unique)(map(Path, own))
    elif out.endswith(("/", "\\")) or os.path.isdir(out):
        paths = unique_within(Path(fill(out, result)) / name for result, name in zip(results, own, strict=True))
    else:
        paths = [Path(fill(out, result)) for result in results]
    for path, result in zip(paths, results, strict=True):
        format_of(path, result.clip)
    refuse_collisions(out or "", paths, instead)
    for path in paths:
        check_writable(path, force or existing, SKIPS if resumes and len(results) > 1 else "")
    return paths


def refuse_collisions(out: str, paths: list[Path], instead: str) -> None:
    """Raise UsageError where two results would have one name."""
    different = len({str(path).casefold() for path in paths})  # macOS and Windows tell no case apart
    if different == 1 < len(paths):
        raise UsageError(f"-o {out}: {len(paths)} pictures into one file; put {{i}} in it, or give {instead}")
    if different < len(paths):
        raise UsageError(f"-o {out}: two results would have the same name; put {{i}} or {{seed}} in it")


def fill(template: str, result: Result) -> str:
    """The template with its fields filled in, formatted as Python's are ({i:04d}); a text is made safe first, so it
    cannot leave the folder. Raises UsageError for an unknown field or a format that does not fit."""
    own = {"seed": result.seed, "i": result.i, "prompt": result.prompt, "model": result.model}
    values = {**result.further, **own}

    def value(match: re.Match[str]) -> str:
        if match.group(0) in ("{{", "}}"):
            return match.group(0)[0]
        name, _, spec = match.group(1).partition(":")
        if name not in values:
            known = ", ".join(f"{{{known}}}" for known in values)
            raise UsageError(f"-o {template}: unknown field {{{name}}}{nearest(name, list(values))}; known: {known}")
        return _formatted(template, name, values[name], spec)

    return re.sub(r"\{\{|\}\}|\{([^{}]*)\}", value, template)


def _formatted(template: str, name: str, value: Any, spec: str) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        if number and re.fullmatch(r"[+<>=^ ]{0,2}0?[0-9]{0,3}(\.[0-9]{1,2})?[defgxob%]?", spec):
            return format(value, spec or ("g" if isinstance(value, float) else "")).strip()
        if spec:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"-o {template}: {{{name}:{spec}}} is no format of {value!r}, as {{i:04d}} is of a number"
        ) from None
    return safe("none" if value is None else str(value))


def check_writable(path: Path, force: bool, instead: str = "") -> None:
    """Raise UsageError when the file exists and is not to be replaced, or can never be, with what to do `instead`;
    WorldError if not permitted."""
    if any(len(os.fsencode(part)) > 255 or "\0" in part for part in path.parts):
        raise UsageError(f"-o {str(path)[:80]!r}...: a file name has at most 255 bytes, none of them zero")
    if os.path.isdir(path):
        raise UsageError(f"-o {path}: a folder; give a file name")
    if os.path.exists(path) and not path.is_file():
        raise UsageError(f"-o {path}: not a regular file; use -o - and redirect stdout")
    if os.path.exists(path) and not force:
        raise UsageError(f"-o {path}: exists already; -f replaces it{instead}")
    folder = next(above for above in path.absolute().parents if os.path.lexists(above))
    if not folder.is_dir():
        raise UsageError(
            f"-o {path}: {folder} is {'a link to nowhere' if folder.is_symlink() else 'a file'}, not a folder"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WorldError(f"-o {path}: no permission to write in {folder}")


def unique(paths: Iterable[Path]) -> list[Path]:
    """The paths, with a number appended where a file of that name exists already, or came before in the list."""
    return _numbered(paths, besides_existing=True)


def unique_within(paths: Iterable[Path]) -> list[Path]:
    """A number appended where the same name came before in the list."""
    return _numbered(paths, besides_existing=False)


def _numbered(paths: Iterable[Path], besides_existing: bool) -> list[Path]:
    taken: set[str] = set()
    last: dict[Path, int] = {}
    out = []
    for path in paths:
        candidate, number = path, last.get(path, 1)
        while str(candidate).casefold() in taken or (besides_existing and os.path.lexists(candidate)):
            number += 1
            candidate = path.with_stem(f"{path.stem}-{number}")
        taken.add(str(candidate).casefold())
        last[path] = number
        out.append(candidate)
    return out
