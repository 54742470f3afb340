"""A run folder: what a training run leaves on the disk, each file written whole.

run.json                 the resolved configuration, the data's fingerprint, the version: what a resume must match
state-00001200.safetensors   weights, averages, optimiser moments at a step; the last two are kept
model.safetensors        the averaged weights as a plain model file: the run folder is a model name
early.safetensors        the model file of a tenth of the way: a weaker model to guide by
metrics.jsonl            one line a logged step: the truth, of which displays are views
samples/00001200.png     previews from fixed seeds
lock                     pid and host of the process that trains here
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genctl import files
from genctl.errors import ModelError, UsageError
from genctl.writing import write_whole

if TYPE_CHECKING:
    from torch import Tensor

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

KEPT_STATES = 2
TOLD = {"fingerprint", "pictures", "content", "captions"}  # of `data`: which pictures they are
LENGTH = ("steps", "minutes")  # of `train`: a longer one goes on with the same run


class Run:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "model.safetensors"
        self.early = folder / "early.safetensors"

    def check(self) -> None:
        """Raise UsageError where the folder cannot be a run's, before anything is read or written."""
        above = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        if not above.is_dir():
            raise UsageError(f"-o {self.folder}: {above} is a file; give a folder for the run")
        if not (self.folder / "run.json").exists() and any(other.name != "lock" for other in self.folder.glob("*")):
            raise UsageError(f"-o {self.folder}: not empty and not a run; give another folder")

    def begin(self, document: dict[str, Any], override: bool) -> bool:
        """Create the folder, or check that `document` is what the run began with (its length may have grown). True when
        there is a state to resume.

        Raises UsageError that shows the differences, unless `override`.
        """
        self.check()
        path = self.folder / "run.json"
        for leftover in (*self.folder.glob(".state-*"), *self.folder.glob(".model.safetensors.*")):
            leftover.unlink(missing_ok=True)  # of a write that was killed
        if path.exists() and self.states():
            old = json.loads(path.read_text(encoding="utf-8"))
            changed = list(differences(lengthened(old, document), document))
            if changed and not override:
                raise UsageError(
                    f"{self.folder}: this run was begun otherwise ({'; '.join(changed[:4])}); "
                    "give the same settings to resume, --override to go on with these, or another -o"
                )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n")
        return bool(self.states())

    def states(self) -> list[Path]:
        return sorted(self.folder.glob("state-*.safetensors"))

    def save_state(self, step: int, tensors: dict[str, Tensor], minutes: float) -> Path:
        path = self.folder / f"state-{step:08d}.safetensors"
        files.save_tensors(path, tensors, {"step": str(step), "minutes": repr(minutes)})
        for old in self.states()[:-KEPT_STATES]:
            old.unlink(missing_ok=True)
        return path

    def load_state(self) -> tuple[int, float, dict[str, Tensor]]:
        """Step, minutes and tensors of the newest whole state; a damaged one gives way to the one before."""
        failure: ModelError | None = None
        for path in reversed(self.states()):
            try:
                tensors, header = files.load_tensors(path)
                return int(header.metadata["step"]), float(header.metadata["minutes"]), tensors
            except ModelError as error:
                failure = error
        raise failure or ModelError(f"{self.folder}: no state to resume")

    def trim_metrics(self, step: int) -> None:
        """Drop the lines after `step`: a killed run may have logged steps that it must now take again."""
        path = self.folder / "metrics.jsonl"
        if path.exists():
            lines = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
            write_whole(path, "".join(line + "\n" for line in lines).encode())

    def log(self, row: dict[str, Any]) -> None:
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Refuse a second process on this folder with the first's pid and host. The lock is the system's own (flock):
        it goes with the process that holds it. Where there is none (Windows), runs are not guarded. A new folder in
        which nothing was trained goes again."""
        new = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "lock"
        try:
            with path.open("a+") as file:
                if fcntl is not None:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except OSError:
                        holder = path.read_text().strip() or "another process"
                        raise UsageError(
                            f"{self.folder}: {holder} trains here; stop it first, or give another -o"
                        ) from None
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}")
                file.flush()
                yield
                file.truncate(0)
        finally:
            if new and {path.name for path in self.folder.iterdir()} <= {"run.json", "lock"}:
                shutil.rmtree(self.folder)


def lengthened(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`old` with the length of `new`, where that is longer in the same measure: the schedule stretches, no more."""
    before, after = old.get("train", {}), new.get("train", {})
    lengths = [(before.get(key), after.get(key)) for key in LENGTH]
    grown = all(b >= a if a is not None and b is not None else a is b for a, b in lengths)
    return old | {"train": before | {key: after[key] for key in LENGTH if key in after}} if grown and after else old


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """`train.batch: 64 -> 32` for each leaf that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        if where == "data":
            yield from other_pictures(old, new)
            old, new = ({key: part[key] for key in part.keys() - TOLD} for part in (old, new))
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif old != new:
        yield f"{where}: {json.dumps(old)} -> {json.dumps(new)}"


def other_pictures(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """`data: 1 picture fewer`, where the pictures or captions differ. Runs of earlier versions did not note which."""
    if old.get("fingerprint") == new.get("fingerprint"):
        return
    if not all(part.keys() >= TOLD and type(part["pictures"]) is int for part in (old, new)):
        yield "data: other pictures or captions"
        return
    more = new["pictures"] - old["pictures"]
    if more:
        count = f"{abs(more):,} {'picture' if abs(more) == 1 else 'pictures'} {'more' if more > 0 else 'fewer'}"
        yield f"data: {count} ({new['pictures']:,}, were {old['pictures']:,})"
    elif new["content"] != old["content"]:
        yield "data: the same number of pictures, but other ones"
    elif new["captions"] != old["captions"]:
        yield "data: the same pictures with other captions, splits or weights"


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 1 << 60  # a half-written last line
