"""genctl distill: a fast student of a trained flow; the same command again resumes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genctl import __version__, config, files, hub
from genctl.cli import shared
from genctl.cli.train import default_preset, facts_of, fit, sources, training_facts
from genctl.errors import InputError, UsageError
from genctl.train.run import Run

if TYPE_CHECKING:
    from genctl.families.base import Source
    from genctl.families.flow import Flow

PAIRS, HELD_PAIRS = 4096, 64  # that the teacher draws where no data are given, and for the held-out figures


def distill(
    model: shared.Model = "ldm",
    steps: Annotated[int, typer.Option(help="That the student draws in, unless told otherwise.", min=1, max=64)] = 1,
    method: Annotated[
        str | None,
        typer.Option(
            help=f"One of {', '.join(shared.METHODS)} (default: progressive; dmd of a model that predicts x; "
            "consistency where sampling times are spaced as Karras or evenly in log-SNR)."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Pictures as in training; without, the teacher's own from the prompts in its file."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Text file, a prompt a line, instead of those in the teacher's file.")
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(help=f"Pictures that the teacher draws to learn from (without --data {PAIRS}).", min=1),
    ] = None,
    init: Annotated[str | None, typer.Option(help="Go on from this earlier student of the same teacher.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run folder (default runs/MODEL-fast).")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Settings to begin from: cpu or gpu (default: gpu if there is one).")
    ] = None,
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
    if method is not None:
        shared.one_of("--method", method, shared.METHODS)
    if minutes is not None and updates is not None:
        raise UsageError("--minutes or --updates, not both")
    if data is not None and prompts is not None:
        raise UsageError("--prompts or --data, not both: pictures bring their own captions")
    _, document = shared.describe(model)
    if "diffusion" not in document["config"]:
        raise UsageError(f"a {document['family']} model ({model}) is no flow, and only flows can be distilled")
    if "teacher" in document:
        raise UsageError(
            f"{model} is a student itself; distill its teacher {document['teacher']['name']}, --init {model}"
        )
    if any(part.get("scalars") for part in document["config"].values() if isinstance(part, dict)):
        raise UsageError(f"{model} was trained for few steps already, and has no momentary velocity to teach")
    if method is None:
        method = default_method(document["config"])
    if pairs is not None and method == "dmd":
        raise UsageError("--pairs has no effect on --method dmd, which learns from prompts alone; leave it out")
    if init is not None:
        path = hub.resolve(model)
        taught_by = shared.describe(init)[1].get("teacher", {})
        if taught_by.get("sha256") != hub.weights_sha256(path, files.read_header(path)):
            raise UsageError(f"--init {init}: is no student of {model}")
    texts = None if data is not None else _prompts(document, model, prompts)
    values = config.load_preset("distill", preset or default_preset("distill", device))
    values = config.merge(
        {key: part for key, part in values.items() if key not in shared.METHODS}, values.get(method, {})
    )
    if minutes is not None or updates is not None:
        values["train"] = {**values.get("train", {}), "minutes": minutes, "steps": updates}
    for text in sets or []:
        values = config.merge(values, config.parse_override(text))
    for section in values:
        shared.one_of("--set section", section, ("train", "data", "distill") if data else ("train", "distill"))
    shown = Path(model).stem if hub.path_like(model) else model
    run = Run(output or Path("runs") / f"{shown}-fast")
    run.check()
    _distill(model, values, data, texts, pairs, init, run, method, steps, seed, threads, override, device, quiet)


def default_method(config: dict[str, Any]) -> str:
    """What measured best at equal minutes (docs/measured.md) of the methods that such a model can learn by."""
    if config["diffusion"]["target"] == "x":
        return "dmd"
    return "consistency" if config["sampling"]["spacing"] in ("karras", "exponential") else "progressive"


def _prompts(document: dict[str, Any], model: str, file: Path | None) -> list[str]:
    """What to ask the teacher for. Raises UsageError where nothing says."""
    if file is not None and not {"class", "text"} & set(document["can"]):
        raise UsageError(f"--prompts: {model} takes no condition; leave it out")
    if file is not None:
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: {getattr(error, 'strerror', None) or 'is no text file'}") from None
        if not lines:
            raise InputError(f"{file}: holds no prompt")
        if "class" in document["can"]:
            for line in lines:
                shared.one_of(f"{file}:", line, document["config"]["classes"])
        return lines
    if "class" in document["can"]:
        return list(document["config"]["classes"])
    if "text" not in document["can"]:
        return [""]
    if not document.get("prompts"):
        raise UsageError(f"{model} does not say what it was trained on: give --data DIR or --prompts FILE")
    return list(document["prompts"])


def _distill(
    name: str, values: dict[str, Any], data: Path | None, texts: list[str] | None, pairs: int | None, init: str | None,
    run: Run, method: str, steps: int, seed: int, threads: int | None, override: bool, device: str, quiet: bool,
) -> None:  # fmt: skip
    import torch

    from genctl.families.distill import METHODS, student_of
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
    begun = None if init is None else shared.load(init, device, quiet)
    assert isinstance(teacher, Flow)
    assert begun is None or isinstance(begun, Flow)
    keep_memory()
    torch.manual_seed(seed)
    student = student_of(teacher, method, steps, settings, begun)
    shown, shown_init = (Path(text).stem if text and hub.path_like(text) else text for text in (name, init))
    if not METHODS[method].needs_pictures:
        pairs = None
    elif pairs is None and data is None:
        pairs = PAIRS
    held_texts: list[str] = []
    document: dict[str, Any] = {
        "family": student.name, "config": config.to_dict(student.config), "train": config.to_dict(train_config),
        "seed": seed, "init": shown_init or shown, "data": {"pairs": pairs}, "version": __version__,
        "teacher": {"name": shown, "sha256": teacher.weights_sha256, "method": method, "steps": steps,
                    "settings": config.to_dict(settings)},
    }  # fmt: skip
    kept = ("data", "prompts", "licence")
    facts: dict[str, Any] = {key: value for key, value in teacher.info.items() if key in kept}
    facts |= training_facts(document) | {"teacher": document["teacher"] | {"pairs": pairs}}
    make: Callable[[], tuple[Source, Source | None]]
    if data is not None:
        from genctl.data.pictures import DataConfig, load
        from genctl.metrics.samples import prompt_of

        recorded = teacher.info.get("data", {}).get("settings", {})
        data_config = config.build(DataConfig, config.merge(recorded, values.get("data", {})), "data.")
        pictures = load(data, teacher.pixels, data_config, lambda line: shared.remark(f"genctl: {line}"))
        shared.remark(f"data: {pictures.summary} ({data_config.fit} to {teacher.pixels} px)", quiet)
        document["data"] |= config.to_dict(data_config) | {"fingerprint": pictures.fingerprint}
        facts |= facts_of(student, pictures, data, document)
        make = partial(sources, student, pictures, data)
        texts, held_texts = ([prompt_of(teacher, e) for e in pictures.split(held).entries] for held in (False, True))
    if data is None or pairs is not None:
        document["data"]["prompts"] = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
        make = partial(_drawn, teacher, texts or [""], held_texts or texts or [""], pairs, settings, quiet)
    fit(student, make, facts, document, run, train_config, override, quiet)


def _drawn(
    teacher: Flow, prompts: list[str], held_out: list[str], pairs: int | None, settings: Any, quiet: bool
) -> tuple[Source, Source | None]:
    """Sources of the teacher's own pictures, or of prompts alone. Held out is the noise, and the prompts where a folder
    has such."""
    from genctl.families.distill.source import Drawn

    count, show, begun = pairs or len(prompts), shared.counter(quiet), False

    def report(done: int, total: int) -> None:
        nonlocal begun
        if not begun:
            shared.remark(f"the teacher draws {total - done:,} pictures first (kept in the cache)", quiet)
        begun = True
        show(done, total)

    made = Drawn(teacher, prompts, count, settings, pairs is not None, "training", report)
    return made, Drawn(teacher, held_out, HELD_PAIRS, settings, False, "held out")
