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

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from genctl import files
from genctl.errors import DivergedError, GenctlError, InputError, ModelError, UsageError
from genctl.text import printable
from genctl.training.lock import LOCK, Lock
from genctl.writing import write_whole

if TYPE_CHECKING:
    from torch import Tensor

KEPT_STATES = 2
TOLD = {"fingerprint", "pictures", "content", "captions"}  # of `data`: which pictures they are
LENGTH = ("steps", "minutes")  # of `train`: a longer one goes on with the same run
MOST_BYTES = 1 << 24  # of run.json; a larger one is no work of ours
TEMPORARY = re.compile(r"\.(run\.json|metrics\.jsonl|state-|model\.safetensors|early\.safetensors|\d{8}\.png).*")
Remark = Callable[[str], None]


def silent(line: str) -> None:
    """A remark that nobody hears."""


class State(NamedTuple):
    """What a run goes on from. minutes: of training; prepared: those before its first step that count as well."""

    step: int
    minutes: float
    tensors: dict[str, Tensor]
    prepared: float = 0.0


class Run:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "model.safetensors"
        self.early = folder / "early.safetensors"
        self.metrics = folder / "metrics.jsonl"
        self.samples = folder / "samples"

    def check(self) -> None:
        """Raise UsageError where the folder cannot be a run's, before anything is read or written."""
        if str(self.folder) == "-" or self.folder.suffix == ".safetensors":
            raise UsageError(f"-o {self.folder}: a run is a folder; its model.safetensors will lie in it")
        above = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        if not above.is_dir():
            raise UsageError(f"-o {self.folder}: {above} is a file; give a folder for the run")
        known = (self.folder / "run.json").exists() or self.states()
        if not known and any(not _of_no_run(other) for other in self.folder.glob("*")):
            raise UsageError(f"-o {self.folder}: not empty and not a run; give another folder")

    def begin(self, document: dict[str, Any], override: bool) -> bool:
        """Create the folder, or check that `document` is what the run began with (its length may have grown). True when
        there is a state to resume, which keeps its document until `record`; where there is none, what a run left that
        was stopped before its first goes.

        Raises UsageError that shows the differences, or InputError for a damaged run.json, unless `override`.
        """
        self.check()
        for leftover in [*self.folder.glob(".*"), *self.samples.glob(".*")]:
            if TEMPORARY.fullmatch(leftover.name):
                leftover.unlink(missing_ok=True)  # of a write that was killed
        if self.states():
            changed = [] if override else list(differences(begun_with(self._document(), document), document))
            if changed:
                raise UsageError(
                    f"{self.folder}: this run was begun otherwise ({'; '.join(changed[:4])}); "
                    "give the same settings to resume, --override to go on with these, or another -o"
                )
        elif self.model.exists() and not override:
            raise UsageError(
                f"{self.folder}: has a model but no state to go on from; give another -o, or --override to train anew"
            )
        else:
            for path in (self.metrics, self.early, *self.samples.glob("[0-9]*.png")):
                path.unlink(missing_ok=True)
        if not self.states():
            self.record(document)
        return bool(self.states())

    def record(self, document: dict[str, Any]) -> None:
        """Write run.json."""
        text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")
        write_whole(self.folder / "run.json", text + b"\n")

    def _document(self) -> dict[str, Any]:
        """What run.json says. Raises InputError where it is missing or damaged."""
        path = self.folder / "run.json"
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError("too large")
            found = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError("not a table")
        except (OSError, ValueError, RecursionError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)[:80]
            raise InputError(
                f"{path}: damaged or missing ({said}), so the settings that this run was begun with are unknown; "
                "--override goes on with those given now"
            ) from None
        return found

    def recorded(self, *keys: str) -> Any:
        """What run.json says under nested keys, or None; of a run that has a state or prepares one."""
        try:
            found: Any = self._document()
        except InputError:
            return None
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    # states ----------------------------------------------------------------------------------------------------------
    def states(self) -> list[Path]:
        return sorted(self.folder.glob("state-*.safetensors"))

    def save_state(self, step: int, tensors: Mapping[str, Tensor], minutes: float, prepared: float = 0.0) -> Path:
        """Write a state whole, with the hash that `load_state` checks. Raises DivergedError for numbers that are not
        finite: such a state is of no use."""
        whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        wrong = not_finite(whole)
        if wrong:
            raise DivergedError(f"{self.folder}: {wrong} holds NaN or infinite values at step {step}; not saved")
        facts = {"step": str(step), "minutes": repr(minutes), "prepared": repr(prepared)}
        path = self.folder / f"state-{step:08d}.safetensors"
        files.save_tensors(path, whole, facts | {"sha256": state_sha256(whole, facts)})
        for old in self.states()[:-KEPT_STATES]:
            old.unlink(missing_ok=True)
        return path

    def load_state(self, remark: Remark = silent) -> State:
        """The newest whole state; a damaged one gives way to the one before, which `remark` says. Raises ModelError
        where none is whole."""
        said = ""
        for path in reversed(self.states()):
            try:
                state = read_state(path)
            except ModelError as error:
                said = said or str(error)
                remark(f"genctl: {error}; going back to the state before it")
            else:
                return state
        raise ModelError(f"{self.folder}: no whole state to resume ({said or 'none at all'}); give another -o")

    def drop_after(self, step: int, remark: Remark = silent) -> None:
        """Drop what comes after `step`, all of which is to be made again: damaged states, an early model, lines of
        metrics.jsonl."""
        for path in self.states():
            if path.name > f"state-{step:08d}.safetensors":
                path.unlink(missing_ok=True)
        if self.early.is_file() and not _steps_of(self.early) <= step:
            self.early.unlink(missing_ok=True)
        self.trim_metrics(step, remark)

    # metrics ---------------------------------------------------------------------------------------------------------
    def trim_metrics(self, step: int, remark: Remark = silent) -> None:
        """Drop the lines after `step`: a killed run may have logged steps that it must now take again; and those that
        say no step at all."""
        if not self.metrics.is_file():
            return
        lines = self.metrics.read_bytes().decode("utf-8", "replace").split("\n")
        steps = [_step_of(line) for line in lines]
        damaged = sum(found is None and bool(line.strip()) for found, line in zip(steps[:-1], lines[:-1], strict=True))
        if damaged:  # beside a half-written last one
            remark(f"genctl: {self.metrics}: {damaged} damaged line{'s' * (damaged > 1)} left out")
        kept = [line for line, found in zip(lines, steps, strict=True) if found is not None and found <= step]
        write_whole(self.metrics, "".join(line + "\n" for line in kept).encode())

    def log(self, row: dict[str, Any]) -> None:
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    # the lock --------------------------------------------------------------------------------------------------------
    def refuse_second(self) -> None:
        """Raise WorldError where another process trains here by now; before the data are read, which takes its time."""
        Lock(self.folder).refuse_second()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Refuse a second process on this folder with the first's pid and host. A new folder in which nothing was
        trained goes again: only who holds the lock removes it."""
        new = not self.folder.exists()
        with Lock(self.folder).held():
            try:
                yield
            finally:
                if new:
                    self._remove_untrained()

    def _remove_untrained(self) -> None:
        """Remove the folder, held by us, where it has no more than what begins a run."""
        found = list(self.folder.iterdir()) if self.folder.is_dir() else []
        if all(path.name == "run.json" or _of_no_run(path) for path in found):
            for path in sorted(found, key=lambda path: path.name == LOCK):  # the lock last: it guards the others
                with contextlib.suppress(PermissionError):  # Windows, of the lock that we hold
                    path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another process has begun here meanwhile
                self.folder.rmdir()


def _of_no_run(path: Path) -> bool:
    """Whether a folder with such files alone holds no run yet: the lock, and what a killed first write left."""
    return path.name == LOCK or bool(TEMPORARY.fullmatch(path.name))


def state_sha256(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    """The hash of a state: names, kinds, shapes and bytes of its tensors (contiguous, on the CPU), step and minutes."""
    said = [[key, str(value.dtype), list(value.shape)] for key, value in sorted(tensors.items())]
    digest = hashlib.sha256(json.dumps([dict(facts), said], sort_keys=True).encode("utf-8", "replace"))
    for _, value in sorted(tensors.items()):
        digest.update(files.tensor_bytes(value))
    return digest.hexdigest()


def read_state(path: Path) -> State:
    """The state in a file. Raises ModelError for a damaged one, and for one with numbers that are not finite."""
    tensors, header = files.load_tensors(path)
    facts = {key: value for key, value in header.metadata.items() if key != "sha256"}
    recorded = header.metadata.get("sha256")
    if recorded is not None and recorded != state_sha256(tensors, facts):
        raise ModelError(f"{path}: damaged (it is not what its header was written with)")
    wrong = not_finite(tensors)
    if wrong:
        raise ModelError(f"{path}: {printable(wrong, 80)} holds NaN or infinite values")
    try:
        step, minutes, prepared = int(facts["step"]), float(facts["minutes"]), float(facts.get("prepared", "0"))
    except (KeyError, ValueError):
        raise ModelError(f"{path}: damaged (its header says no step or minutes)") from None
    if step < 0 or not 0 <= minutes < math.inf or not 0 <= prepared < math.inf:
        raise ModelError(f"{path}: damaged (its header says an impossible step or time)")
    return State(step, minutes, tensors, prepared)


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of the first tensor that holds NaN or infinite values, or an empty string."""
    import torch

    for key, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return key
    return ""


def _steps_of(path: Path) -> float:
    """The steps that a model file says it was trained for; infinite where it says none."""
    try:
        steps = files.read_header(path).document.get("training", {}).get("steps")
    except (GenctlError, AttributeError):
        return math.inf
    return steps if type(steps) is int else math.inf


def begun_with(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What a run was begun with, `old`, where that may differ: the length, which may grow, and the names of its parts,
    so long as they hold what they did."""
    old, parts = lengthened(old, new), new.get("parts", {})
    if isinstance(old.get("config"), dict) and isinstance(old.get("parts"), dict):
        same = {part for part, tensors in parts.items() if old["parts"].get(part) == tensors}
        old = old | {"config": old["config"] | {part: new["config"][part] for part in same}}
    return old


def lengthened(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`old` with the length of `new`, where that is longer in the same measure: the schedule stretches, no more."""
    before, after = old.get("train"), new.get("train")
    if not isinstance(before, dict) or not isinstance(after, dict):
        return old
    lengths = [(before.get(key), after.get(key)) for key in LENGTH]
    if not all(isinstance(value, (int, float, type(None))) for pair in lengths for value in pair):
        return old
    grown = all(b >= a if a is not None and b is not None else a is b for a, b in lengths)
    return old | {"train": before | {key: after[key] for key in LENGTH if key in after}} if grown and after else old


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """`train.batch: 64 -> 32` for each leaf that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        if where == "data":
            yield from other_pictures(old, new)
            old, new = ({key: part[key] for key in part.keys() - TOLD} for part in (old, new))
        for key in sorted(old.keys() | new.keys()):
            name = json.dumps(key[:40])[1:-1]
            yield from differences(old.get(key), new.get(key), f"{where}.{name}" if where else name)
    elif old != new:
        yield f"{where}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


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


def _step_of(line: str) -> float | None:
    """The step that a line of metrics.jsonl is of, or None where it says none."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError, IndexError):
        return None
    return step if type(step) is int else None
