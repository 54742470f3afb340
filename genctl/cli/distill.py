"""genctl distill: a fast student of a trained flow; the same command again resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from genctl.cli import say, shared
from genctl.cli.jobs import prompts_of
from genctl.cli.progress import Progress, TrainingDisplay
from genctl.cli.train import NONE, SamplePrompts, laid_over, texts_of
from genctl.devices import MOST_THREADS
from genctl.families import registry
from genctl.families.distill.settings import Method, asked_of, checked
from genctl.seeds import MOST_SEED


def distill(
    model: shared.Model = registry.DRAWS,
    steps: Annotated[int, typer.Option(help="Sampling steps of the student.", min=1, max=64)] = 1,
    method: Annotated[
        str | None,
        typer.Option(
            help=f"One of {', '.join(get_args(Method))} (default: progressive; dmd of a model that predicts x; "
            "consistency where sampling times are spaced as Karras or evenly in log-SNR)."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Pictures, as in training (default: drawn by the teacher, from prompts in its file)."),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Text file, a prompt (or JSON with prompt alone) a line, instead of those in the teacher's file."
        ),
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(help="Pictures that the teacher draws (default: what a third of --minutes allows).", min=1),
    ] = None,
    init: Annotated[str | None, typer.Option(help="Go on from this earlier student of the same teacher.")] = None,
    sample_prompts: SamplePrompts = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run folder (default runs/MODEL-fast).")] = None,
    preset: Annotated[str | None, typer.Option(help="Settings: cpu or gpu (default: gpu if there is one).")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Total training time, over all resumes (default: of the preset).", min=0.0)
    ] = None,
    updates: Annotated[
        int | None, typer.Option(help="Total number of optimiser steps, instead of --minutes.", min=1)
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting: distill.stages=6 (repeatable)."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", "-s", help="Seed of the whole run.", min=0, max=MOST_SEED)] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads.", min=1, max=MOST_THREADS)] = None,
    override: Annotated[bool, typer.Option("--override", help="Resume although settings or data changed.")] = False,
    device: shared.Device = "auto",
    trust: shared.Trust = False,
    progress: Progress = "auto",
    quiet: shared.Quiet = False,
) -> None:
    """Make a fast student of a trained flow: genctl distill --model ldm --steps 1. Run it again to resume."""
    _, document = shared.describe(model)
    init = None if init == NONE else init
    checked(document, model, method, data, prompts, pairs, init)
    asked = None if prompts is None else prompts_of(str(prompts))
    if data is None:
        asked_of(document, model, asked, str(prompts))
    from genctl.training.distill import distill

    with TrainingDisplay(progress, quiet) as display:
        made = distill(
            model, steps, output, method=method, data=data, prompts=asked, pairs=pairs, init=init, preset=preset,
            minutes=minutes, updates=updates, settings=laid_over(sets), seed=seed, threads=threads, override=override,
            device=device, trust=trust, sample_prompts=texts_of(sample_prompts), report=display.show,
            remark=lambda line: shared.remark(line, quiet),
        )  # fmt: skip
    shared.remark_others(model, quiet)
    say.path(made)
