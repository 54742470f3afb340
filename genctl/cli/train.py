"""genctl train: learn from a folder of pictures; the same command again resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from genctl import config
from genctl.cli import say, shared
from genctl.cli.jobs import prompts_of
from genctl.cli.progress import Progress, TrainingDisplay
from genctl.devices import MOST_THREADS
from genctl.errors import InputError, UsageError
from genctl.families import registry
from genctl.seeds import MOST_SEED
from genctl.training.run import Run

NONE = "none"  # --init none: random weights


SamplePrompts = Annotated[
    Path | None,
    typer.Option("--sample-prompts", help="Text file, a prompt a line: samples/ shows these as it learns."),
]


def train(
    data: Annotated[
        Path,
        typer.Argument(help="Folder (or .zip, .tar) of pictures: flat, class folders, .txt captions, metadata.jsonl."),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help=f"Family: {', '.join(registry.trainable())}.")
    ] = registry.DRAWS,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run folder (default runs/MODEL).")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Settings: cpu, gpu, tiny and others of the family (default: gpu if there is one, else cpu)."
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Total training time over all resumes (default: of the preset); a larger total goes on.",
            min=0.0,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Total number of optimiser steps, instead of --minutes.", min=1)
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(help="Fine-tune this model (default: the shipped one if it fits); none: train from scratch."),
    ] = None,
    sample_prompts: SamplePrompts = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: train.batch=32 (repeatable).")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", "-s", help="Seed of the whole run.", min=0, max=MOST_SEED)] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads.", min=1, max=MOST_THREADS)] = None,
    override: Annotated[bool, typer.Option("--override", help="Resume although settings or data changed.")] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the settings as JSON and stop.")] = False,
    device: shared.Device = "auto",
    progress: Progress = "auto",
    quiet: shared.Quiet = False,
) -> None:
    """Train a model on a folder: genctl train --model ldm pictures/ -o runs/mine. Run it again to resume."""
    shared.one_of("--model", model, registry.trainable())
    if minutes is not None and steps is not None:
        raise UsageError("--minutes or --steps, not both")
    settings = laid_over(sets)
    if init not in (None, NONE) and not Run(output or Path("runs") / model).states():
        _check_init(str(init), model)
    if print_config:
        _print_config(model, preset, minutes, steps, settings, device)
        return
    from genctl.training.train import train

    with TrainingDisplay(progress, quiet) as display:
        made = train(
            data, model, output, preset=preset, minutes=minutes, steps=steps, init=init, settings=settings, seed=seed,
            threads=threads, override=override, device=device, sample_prompts=texts_of(sample_prompts),
            report=display.show, remark=lambda line: shared.remark(line, quiet),
        )  # fmt: skip
    say.path(made)


def texts_of(path: Path | None) -> list[str] | None:
    """The prompts of a text file, a line each. Raises InputError where it has none."""
    found = None if path is None else prompts_of(str(path))
    if found == []:
        raise InputError(f"{path}: holds no prompt")
    return found


def laid_over(sets: list[str] | None) -> dict[str, Any]:
    """The tables of all --set."""
    values: dict[str, Any] = {}
    for text in sets or []:
        values = config.merge(values, config.parse_override(text))
    return values


def _print_config(
    model: str, preset: str | None, minutes: float | None, steps: int | None, settings: dict[str, Any], device: str
) -> None:
    from genctl.training.train import configs, default_preset, settings_of

    values = settings_of(model, preset or default_preset(model, device), minutes, steps, settings)
    resolved = dict(zip(("model", "train", "data"), map(config.to_dict, configs(model, values)), strict=True))
    print(json.dumps(resolved, indent=1))


def _check_init(name: str, family: str) -> None:
    """Raises ModelError for no model, and UsageError for one that cannot be begun from; without torch."""
    _, document = shared.describe(name)
    registry.check_init(name, document["family"], family)
    shared.remark_others(name)
