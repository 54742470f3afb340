"""Pictures of what would otherwise be read as numbers: a noise schedule, a training run. Needs matplotlib (the extra
`plot`); each returns the bytes of a PNG."""

from __future__ import annotations

import io
import math
from typing import Any

import torch
from torch import Tensor

from genctl.diffusion.path import Path
from genctl.diffusion.time import training_times
from genctl.errors import WorldError

MOST_FIGURES = 40  # of a run's rows, each with a panel
SNR_SHOWN = 20.0  # log-SNR is infinite at an end of most paths


def density_of(times: Tensor, bins: int = 60) -> tuple[Tensor, Tensor]:
    """Middles and heights [bins] of the density of training times [N] in (0, 1), as a histogram of area 1."""
    heights = torch.histc(times.float(), bins, 0.0, 1.0) * bins / len(times)
    return (torch.arange(bins) + 0.5) / bins, heights


def schedule(path: Path, diffusion: Any, times: Tensor, title: str) -> bytes:
    """a(t), b(t) and log-SNR of a path, where training looks and where sampling steps: `diffusion` has density,
    density_mean, density_std and shift (families/flow/settings.py), `times` is a falling grid."""
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    uniform = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    named = (diffusion.density, uniform, diffusion.density_mean, diffusion.density_std, diffusion.shift, path)
    middles, heights = density_of(training_times(*named))
    figure, ((coefficients, snr), (density, steps)) = panels_of(2, 2)
    coefficients.plot(t, path.a(t), label="a (data)")
    coefficients.plot(t, path.b(t), label="b (noise)")
    coefficients.set(title="x_t = a x + b z", xlabel="t")
    coefficients.legend()
    shown = path.log_snr(t).clamp(-SNR_SHOWN, SNR_SHOWN)
    snr.plot(t, shown)
    snr.set(title="log-SNR = 2 log(a / b)", xlabel="t")
    density.fill_between(middles, heights, alpha=0.4)
    density.set(title="density of t in training", xlabel="t", ylim=(0, None))
    steps.plot(times, torch.arange(len(times)), "o-", markersize=3)
    steps.set(title=f"{len(times) - 1} steps of sampling", xlabel="t", ylabel="step", xlim=(0, 1))
    return png_of(figure, title)


def run(rows: list[dict[str, Any]], title: str, sheets: list[tuple[int, Any]]) -> bytes:
    """A run's metrics.jsonl: losses, the other figures, the gradient's norm, by minutes; below them its sheets of
    pictures, (step, Pillow picture), two a row."""
    figures = sorted({key for row in rows for key in row} - {"step", "minutes", "progress", "skipped", "images"})
    figures = figures[:MOST_FIGURES]
    losses = [key for key in figures if "loss" in key]
    others = [key for key in figures if key not in losses]
    curves, shown = max(1, (1 + len(others) + 1) // 2), math.ceil(len(sheets) / 2)
    figure, panels = panels_of(curves + shown, 2)
    _show(list(panels[curves:].flat), sheets)
    panels = list(panels[:curves].flat)
    _curves(panels[0], rows, losses)
    positive = all(row[key] > 0 for row in rows for key in losses if key in row)
    panels[0].set(title="loss", yscale="log" if positive else "linear")
    for panel, key in zip(panels[1:], others, strict=False):
        _curves(panel, rows, [key])
        panel.set(title=key)
    for panel in panels[1 + len(others) :]:
        panel.axis("off")
    for panel in panels[: 1 + len(others)]:
        panel.set_xlabel("minutes")
    return png_of(figure, title)


def _show(panels: list[Any], sheets: list[tuple[int, Any]]) -> None:
    for panel in panels:
        panel.axis("off")
    for panel, (step, picture) in zip(panels, sheets, strict=False):
        panel.imshow(picture)
        panel.set_title(f"step {step:,}", fontsize=9)


def _curves(panel: Any, rows: list[dict[str, Any]], keys: list[str]) -> None:
    for key in keys:
        points = [(row["minutes"], row[key]) for row in rows if key in row]
        style = "o-" if key.startswith("held_out") or len(points) < 2 else "-"
        panel.plot(*zip(*points, strict=True), style, markersize=3, linewidth=1, label=key)
    if len(keys) > 1:
        panel.legend(fontsize=7)


def panels_of(rows: int, columns: int) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise WorldError("plots need matplotlib: pip install 'genctl[plot]'") from None
    figure = Figure(figsize=(4.5 * columns, 3.2 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def png_of(figure: Any, title: str) -> bytes:
    figure.suptitle(title)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()
