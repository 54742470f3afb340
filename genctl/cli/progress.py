"""How far a command is: one stream of events, shown as a bar on a terminal, or as JSON lines on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from genctl.cli import say

if TYPE_CHECKING:
    from PIL.Image import Image

Mode = Literal["auto", "json", "none"]
Progress = Annotated[
    str, typer.Option("--progress", help="auto (a bar on a terminal), json (a line an event on stderr) or none.")
]
LEAST = 8  # pictures of which a bar is worth showing
AT_ONCE = ("saving", "drawing a sheet")  # stages whose one line is shown when it comes
LINE_SECONDS = 10.0  # between lines of a training run where stderr is not a terminal


def duration(seconds: float) -> str:
    """Time in the unit that fits: `40 s`, `12 min`, `1.5 h`."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class Display:
    """Shows events: {stage, step, of} and what else is known. `of` may be None while nobody knows."""

    def __init__(self, mode: str, quiet: bool) -> None:
        from genctl.cli import shared

        shared.one_of("--progress", mode, ("auto", "json", "none"))
        self.json = mode == "json"
        self.terminal = mode == "auto" and not quiet and sys.stderr is not None and sys.stderr.isatty()
        self.lines = mode == "auto" and not quiet and not self.terminal
        self.spoken = time.monotonic()
        self.bar: Any = None
        self.task: Any = None
        self.shown = 0  # lines of the last preview, to draw the next one over

    def event(self, stage: str, step: int, of: int | None, **facts: Any) -> None:
        if self.json:
            row = {"event": "progress", "stage": stage, "step": step, "of": of} | facts
            say.document(row, sys.stderr)
        elif self.terminal and stage != "step":
            self._advance(step, of)
        elif self.lines and stage != "step" and time.monotonic() - self.spoken > LINE_SECONDS:
            self.spoken = time.monotonic()
            say.note(f"{stage}: {step} of {of}" if of else f"{stage}: {step}")

    def _advance(self, step: int, of: int | None) -> None:
        if self.bar is None and of is not None and of > LEAST:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self.bar.start()
            self.task = self.bar.add_task("", total=of)
        if self.bar is not None:
            self.bar.update(self.task, completed=step, total=of)

    def counter(self, stage: str) -> Any:
        """(done, total) -> an event."""
        return lambda done, total: self.event(stage, done, total)

    def preview(self, image: Image, step: int, of: int) -> None:
        """The current guess in the terminal, drawn over the last one."""
        if not self.terminal:
            return
        from rich.console import Console

        from genctl.media.terminal import half_blocks

        console = Console(stderr=True)
        if console.no_color:
            return
        blocks = half_blocks(image)
        if step > 1 and self.shown:
            console.file.write(f"\x1b[{self.shown}A")
        self.shown = str(blocks).count("\n") + 1
        console.print(blocks, end="")
        console.print(f"step {step} of {of}")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _held_out(row: dict[str, Any]) -> bool:
    return any(key.startswith("held_out_") for key in row)


class TrainingDisplay(Display):
    """A training run: one line rewritten on a terminal, a plain line now and then elsewhere, or JSON events."""

    def __init__(self, mode: str, quiet: bool) -> None:
        super().__init__(mode, quiet)
        self.quiet, self.last = quiet or mode == "none", 0.0
        self.before: tuple[float, int] | None = None  # time and images of the last row
        self.stage = ("", 0.0, 0)  # that is under way: its name, and when and where it began
        self.speed = 0.0

    def __enter__(self) -> TrainingDisplay:
        if self.terminal:
            from rich.console import Console
            from rich.live import Live

            self.bar = Live(console=Console(stderr=True), refresh_per_second=2)
            self.bar.start()
        return self

    def show(self, row: dict[str, Any]) -> None:
        """A row of metrics.jsonl, or an event of its own (`stage`)."""
        now = time.monotonic()
        if self.json:
            said: dict[str, Any] = {
                "stage": "held out" if _held_out(row) else "train",
                "of": row.get("steps"),
            } | row
            said.pop("steps", None)
            self.event(said.pop("stage"), said.pop("step"), said.pop("of"), **said)
        elif row.get("stage") in AT_ONCE:
            self._rewrite(f"step {row['step']}: {row['stage']}", now, always=True)
        elif "stage" in row:
            begins = row["stage"] != self.stage[0]
            self._rewrite(self._prepared(row, now), now, always=begins)
        elif _held_out(row):
            if self.quiet:
                return
            line = ", ".join(f"{k.removeprefix('held_out_')} {v:.4g}" for k, v in row.items() if k.startswith("held"))
            self._print(f"step {row['step']}: held out {line}")
        elif not self.quiet:
            self._rewrite(self._line(row, now), now)

    def _prepared(self, row: dict[str, Any], now: float) -> str:
        """`encoding texts: 128 of 2048, 12 s left`."""
        name, begun, first = self.stage
        if row["stage"] != name:
            name, begun, first = self.stage = (row["stage"], now, row["step"])
        line = f"{name}: {row['step']:,} of {row['of']:,}"
        done = row["step"] - first
        left = row.get("left", (now - begun) / done * (row["of"] - row["step"]) if done > 0 else None)
        return line if left is None else f"{line}, {duration(left)} left"

    def _rewrite(self, line: str, now: float, always: bool = False) -> None:
        if self.quiet:
            return
        if self.bar is not None:
            from rich.text import Text

            self.bar.update(Text(line))
        elif always or now - self.last > LINE_SECONDS:
            self._print(line)
            self.last = now

    def _line(self, row: dict[str, Any], now: float) -> str:
        if self.before and now > self.before[0]:
            latest = (row["images"] - self.before[1]) / (now - self.before[0])
            self.speed = 0.8 * self.speed + 0.2 * latest if self.speed else latest
        self.before = (now, row["images"])
        left = row["minutes"] * (1 / max(row["progress"], 1e-6) - 1)
        figures = " ".join(f"{k} {v:.3f}" for k, v in row.items() if k in ("loss", "psnr", "lpips", "grad_norm"))
        speed = f" {self.speed:.{0 if self.speed >= 10 else 1}f} images/s" if self.speed else ""
        return f"step {row['step']} {row['progress']:.0%} {figures}{speed}, {duration(60 * left)} left"

    def _print(self, line: str) -> None:
        if self.bar is not None:
            self.bar.console.print(line, highlight=False, markup=False)
        else:
            say.note(line)
