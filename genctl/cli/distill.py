"""genctl distill: a fast student of a trained flow; the same command again resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genctl import __version__, config
from genctl.cli import shared
from genctl.cli.train import fit
from genctl.errors import UsageError
from genctl.train.run import Run


def distill(
    model: shared.Model = "ldm",
    steps: Annotated[int, typer.Option(help="That the student draws in, unless told otherwise.", min=1, max=64)] = 1,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(shared.METHODS)}.")] = "consistency",
    data: Annotated[
        Path | None,
        typer.Option(help="Pictures as in training: conditions and, for most methods, contents."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run folder (default runs/MODEL-fast).")] = None,
    preset: Annotated[str, typer.Option(help="Settings to begin from: cpu or gpu.")] = "cpu",
    minutes: Annotated[float | None, typer.Option(help="Train for so long, over all resumes.", min=0.0)] = None,
    updates: Annotated[int | None, typer.Option(help="Train for so many steps.", min=1)] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting: distill.stages=6 (repeatable)."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", "-s", help="Of the whole run.")] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads.", min=1)] = None,
    override: Annotated[bool, typer.Option("--override", help="Resume although settings or data changed.")] = False,
    device: shared.Device = "auto",
    quiet: shared.Quiet = False,
) -> None:
    """Make a fast student of a trained flow: genctl distill --model ldm --steps 1. Run it again to resume."""
    if data is None:
        raise UsageError("--data: give the pictures that the teacher was trained on, or ones described like them")
    shared.one_of("--method", method, shared.METHODS)
    if minutes is not None and updates is not None:
        raise UsageError("--minutes or --updates, not both")
    _, document = shared.describe(model)
    if "diffusion" not in document["config"]:
        raise UsageError(f"a {document['family']} model ({model}) is no flow, and only flows can be distilled")
    values = config.load_preset("distill", preset)
    if minutes is not None or updates is not None:
        values["train"] = {**values.get("train", {}), "minutes": minutes, "steps": updates}
    for text in sets or []:
        values = config.merge(values, config.parse_override(text))
    for section in values:
        shared.one_of("--set section", section, ("train", "data", "distill"))
    shown = Path(model).stem if shared.hub.path_like(model) else model
    run = Run(output or Path("runs") / f"{shown}-fast")
    run.check()
    _distill(model, values, data, run, method, steps, seed, threads, override, device, quiet)


def _distill(
    name: str, values: dict[str, Any], data: Path, run: Run, method: str, steps: int, seed: int, threads: int | None,
    override: bool, device: str, quiet: bool,
) -> None:  # fmt: skip
    import torch

    from genctl.data.pictures import DataConfig, load
    from genctl.families.distill import student_of
    from genctl.families.distill.lesson import DistillConfig
    from genctl.families.flow import Flow
    from genctl.nets.fast import keep_memory
    from genctl.train.optim import TrainConfig, check

    if threads:
        torch.set_num_threads(threads)
    train_config = config.build(TrainConfig, values.get("train", {}), "train.")
    settings = config.build(DistillConfig, values.get("distill", {}), "distill.")
    check(train_config)
    teacher = shared.load(name, device, quiet)
    assert isinstance(teacher, Flow)
    if teacher.config.net.scalars:
        raise UsageError(f"{name}: is a student itself; distill its teacher")
    recorded = teacher.info.get("data", {}).get("settings", {})
    data_config = config.build(DataConfig, config.merge(recorded, values.get("data", {})), "data.")
    keep_memory()
    pictures = load(data, teacher.pixels, data_config, lambda line: shared.remark(f"genctl: {line}"))
    shared.remark(f"data: {pictures.summary} ({data_config.fit} to {teacher.pixels} px)", quiet)
    torch.manual_seed(seed)
    student = student_of(teacher, method, steps, settings)
    shown = Path(name).stem if shared.hub.path_like(name) else name
    document = {
        "family": student.name, "config": config.to_dict(student.config), "train": config.to_dict(train_config),
        "data": config.to_dict(data_config) | {"fingerprint": pictures.fingerprint}, "seed": seed, "init": shown,
        "teacher": {"name": shown, "sha256": teacher.weights_sha256, "method": method, "steps": steps,
                    "settings": config.to_dict(settings)}, "version": __version__,
    }  # fmt: skip
    fit(student, pictures, data, document, run, train_config, seed, teacher.device, override, quiet)
