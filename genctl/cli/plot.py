"""genctl plot: pictures of what would otherwise be read as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genctl.cli import shared
from genctl.errors import InputError, UsageError

SHEETS = 4  # of a run that are shown

app = typer.Typer(no_args_is_help=True, help="Draw a noise schedule or a training run.")


@app.command("schedule")
def schedule(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Plot this model's schedule (default: that of the options).")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="path=vp, density=uniform, shift=2, spacing=karras, ... (repeatable)."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the sampling grid.", min=1, max=1000)] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="PNG file or -.")] = "schedule.png",
    force: shared.Force = False,
) -> None:
    """a(t), b(t), log-SNR, where training looks and where sampling steps, as one PNG."""
    path = _target(output, force)
    from dataclasses import replace

    from genctl import config
    from genctl.diffusion.path import PATHS
    from genctl.diffusion.time import grid
    from genctl.families.flow.settings import DiffusionConfig, SamplingConfig
    from genctl.metrics import plots

    document = shared.document_of(model).get("config", {}) if model else {}
    if model and "diffusion" not in document:
        raise UsageError(f"{model}: has no noise schedule; it is no flow")
    settings = config.build(DiffusionConfig, document.get("diffusion", {}))
    sampling = config.build(SamplingConfig, document.get("sampling", {}))
    for text in sets or []:
        values = config.parse_override(text)
        (name,) = values
        if name in ("spacing", "steps"):
            sampling = replace(sampling, **_checked(SamplingConfig, values))
        else:
            settings = replace(settings, **_checked(DiffusionConfig, values))
            sampling = replace(sampling, shift=settings.shift) if name == "shift" else sampling
    chosen = PATHS[settings.path]
    times = grid(steps or sampling.steps, sampling.shift, sampling.spacing, chosen)
    named = f"{model}: " if model else ""
    title = f"{named}path {settings.path}, {settings.density}, shift {settings.shift:g}, grid {sampling.spacing}"
    _put_out(plots.schedule(chosen, settings, times, title), path, force)


def _checked(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """The values with their types checked against the configuration `cls`. Raises UsageError."""
    from genctl import config

    built: Any = config.build(cls, values)
    return {name: getattr(built, name) for name in values}


@app.command("run")
def run(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    output: Annotated[str, typer.Option("--output", "-o", help="PNG file or -.")] = "run.png",
    force: shared.Force = False,
) -> None:
    """Losses, figures and sheets of a training run over time."""
    path = _target(output, force)
    from genctl.training.run import Run
    from genctl.training.verdict import rows_of

    found = Run(folder)
    if not found.metrics.is_file():
        raise InputError(f"{folder}: no metrics.jsonl in it; give a run folder of genctl train")
    rows = [row for row in rows_of(found) if "minutes" in row]
    if not rows:
        raise InputError(f"{found.metrics}: nothing was logged yet, or nothing that can be read")
    from genctl.metrics import plots

    _put_out(plots.run(rows, folder.resolve().name, _sheets(found.samples)), path, force)


def _sheets(folder: Path) -> list[tuple[int, Any]]:
    """(step, picture) of the first sheet of a run, its last, and some between; damaged ones are passed over."""
    from genctl.media.pictures import read_picture
    from genctl.media.stream import read_file

    paths = sorted(path for path in folder.glob("*.png") if path.stem.isdecimal() and len(path.stem) <= 12)
    count = min(SHEETS, len(paths))
    chosen = [paths[round(index * (len(paths) - 1) / max(1, count - 1))] for index in range(count)]
    sheets = []
    for path in chosen:
        try:
            sheets.append((int(path.stem), read_picture(read_file(path), str(path))))
        except InputError as error:
            shared.remark(f"genctl: {error}; left out")
    return sheets


def _target(output: str, force: bool) -> Path | None:
    from genctl.media import names
    from genctl.media.write import refuse_terminal

    if output == "-":
        refuse_terminal()
        return None
    if Path(output).suffix.lower() != ".png":
        raise UsageError(f"-o {output}: plots are PNG; give a name that ends in .png, or -")
    names.check_writable(Path(output), force)
    return Path(output)


def _put_out(data: bytes, path: Path | None, force: bool) -> None:
    from genctl.media.write import write_stdout
    from genctl.writing import write_new

    if path is None:
        write_stdout(data)
        return
    shared.result(write_new(path, data, force), False)
