"""What a person should think of a run that has ended: a closing line from its metrics."""

from __future__ import annotations

import json
import math
from typing import Any

from genctl.training.run import Run
from genctl.training.score import SCORE

FEW = 500  # steps, before which nothing is ready
FALLS, RISES = -0.03, 0.03  # relative change of a loss over the last quarter of its rows that counts


def verdict(run: Run, hint: str = "") -> str:
    """`56 steps, held-out loss still falling (0.41 to 0.32): not ready; HINT`."""
    rows = rows_of(run)
    steps = max((row["step"] for row in rows), default=0)
    name, losses = _judged_by(rows)
    before, now = change_of(losses)
    change = (now - before) / max(abs(before), 1e-9)
    more = "; ".join(["the same command with more --minutes or steps goes on", *([hint] if hint else [])])
    figures, done = f"{before:.3g} to {now:.3g}", "not ready" if steps < FEW else "not done"
    if len(losses) < 2:
        return f"{steps:,} step{'s' * (steps != 1)}, too few to judge by: not ready; {more}"
    if change < FALLS:
        return f"{steps:,} steps, {name} still falling ({figures}): {done}; {more}"
    if steps < FEW:
        return f"{steps:,} steps, {name} {now:.3g}: so few are seldom enough; {more}"
    if change > RISES and name == "held-out loss":
        return f"{steps:,} steps, {name} rising ({figures}): it learns its pictures by heart; more pictures would help"
    if change > RISES and name != "loss":
        return f"{steps:,} steps, {name} rising ({figures}); the model file is the best so far"
    return f"{steps:,} steps, {name} level at {now:.3g}"


def _judged_by(rows: list[dict[str, Any]]) -> tuple[str, list[float]]:
    """A run's own figure and its values: the distance of what it draws, where that is what it is kept by."""
    for key, name in ((f"held_out_{SCORE}", "distance of what it draws"), ("held_out_loss", "held-out loss")):
        found = [row[key] for row in rows if key in row]
        if len(found) > 1:
            return name, found
    return "loss", [row["loss"] for row in rows if "loss" in row]


def change_of(losses: list[float]) -> tuple[float, float]:
    """The means of the last quarter of a series and of the quarter before; (0, 0) of fewer than two."""
    if len(losses) < 2:
        return 0.0, 0.0
    part = max(1, len(losses) // 4)
    last, earlier = losses[-part:], losses[-2 * part : -part]
    return sum(earlier) / len(earlier), sum(last) / len(last)


def rows_of(run: Run) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl that say a step, and minutes where they say any, with their figures that are finite
    numbers; damaged lines and parts are passed over."""
    rows = []
    for line in run.metrics.read_bytes().decode("utf-8", "replace").split("\n") if run.metrics.is_file() else []:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):  # the last line of a run that writes right now, or a damaged one
            continue
        row = (
            {key: value for key, value in found.items() if key.isidentifier() and _number(value)}
            if isinstance(found, dict)
            else {}
        )
        if type(row.get("step")) is int:
            rows.append(row)
    return rows


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e30 and math.isfinite(value)
