"""genctl train: learn from a folder of pictures; the same command again resumes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genctl import __version__, config
from genctl.cli import shared
from genctl.errors import InputError, UsageError
from genctl.train.run import Run

if TYPE_CHECKING:
    from genctl.data.pictures import Pictures
    from genctl.families.base import Family, Source

TRAINABLE = ("vae", "ldm", "rf")
MOST_PROMPTS = 2048  # in a model file
LINE_SECONDS = 10.0  # between progress lines where stderr is not a terminal


def train(
    data: Annotated[
        Path, typer.Argument(help="Folder of pictures: flat, class folders, .txt captions or metadata.jsonl.")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help=f"Family: {', '.join(TRAINABLE)}.")] = "ldm",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run folder (default runs/MODEL).")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Settings to begin from (default: gpu if there is one, else cpu).")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Train for so long, over all resumes; more goes on.", min=0.0)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Train for so many steps.", min=1)] = None,
    init: Annotated[str | None, typer.Option(help="Begin from this model's weights.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: train.batch=32 (repeatable).")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", "-s", help="Of the whole run.")] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads.", min=1)] = None,
    override: Annotated[bool, typer.Option("--override", help="Resume although settings or data changed.")] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the settings as JSON and stop.")] = False,
    device: shared.Device = "auto",
    quiet: shared.Quiet = False,
) -> None:
    """Train a model on a folder: genctl train --model ldm pictures/ -o runs/mine. Run it again to resume."""
    shared.one_of("--model", model, TRAINABLE)
    if minutes is not None and steps is not None:
        raise UsageError("--minutes or --steps, not both")
    values = _values(model, preset or default_preset(model, device), minutes, steps, sets or [])
    if print_config:
        resolved = dict(zip(("model", "train", "data"), map(config.to_dict, _configs(model, values)), strict=True))
        print(json.dumps(resolved, indent=1))
        return
    run = Run(output or Path("runs") / model)
    run.check()
    if init and not run.states():
        _check_init(init, model)
    _train(model, values, data, run, init, seed, threads, override, device, quiet)


def default_preset(family: str, device: str) -> str:
    wanted = "cpu" if shared.device_of(device).type == "cpu" else "gpu"
    return wanted if wanted in config.presets(family) else "cpu"


def _values(family: str, preset: str, minutes: float | None, steps: int | None, sets: list[str]) -> dict[str, Any]:
    """The settings: preset, then --minutes or --steps, then --set."""
    values = config.load_preset(family, preset)
    if minutes is not None or steps is not None:
        values["train"] = {**values.get("train", {}), "minutes": minutes, "steps": steps}
    for text in sets:
        values = config.merge(values, config.parse_override(text))
    for section in values:
        shared.one_of("--set section", section, ("model", "train", "data"))
    return values


def _train(
    name: str, values: dict[str, Any], data: Path, run: Run, init: str | None, seed: int, threads: int | None,
    override: bool, device: str, quiet: bool,
) -> None:  # fmt: skip
    import torch

    from genctl.data.pictures import load
    from genctl.families.base import family_class
    from genctl.nets.fast import keep_memory
    from genctl.train.optim import check

    if threads:
        torch.set_num_threads(threads)
    cls = family_class(name)
    model_config, train_config, data_config = _configs(name, values)
    model_config = cls.settled(model_config)
    check(train_config)
    place = shared.device_of(device)
    _check_buildable(cls, model_config)  # before the data are read, which takes its time
    keep_memory()
    pictures = load(data, model_config.pixels, data_config, lambda line: shared.remark(f"genctl: {line}"))
    shared.remark(f"data: {pictures.summary} ({data_config.fit} to {model_config.pixels} px)", quiet)
    model_config = cls.fitted(model_config, pictures)
    torch.manual_seed(seed)  # of the initial weights
    model = cls(model_config).to(place)
    model.prepare_training()
    document = {
        "family": name, "config": config.to_dict(model_config), "train": config.to_dict(train_config),
        "data": config.to_dict(data_config) | {"fingerprint": pictures.fingerprint}, "seed": seed, "init": init,
        "parts": cls.part_hashes(model_config), "version": __version__,
    }  # fmt: skip
    captioned = any(entry.captions or entry.tags for entry in pictures.entries)
    if "text" in model.can and not captioned:
        how = "name class folders, put a .txt beside each picture, or a metadata.jsonl"
        shared.remark(f"genctl: {data}: no captions, so the model will not know any prompt; {how}", quiet)
    begin = partial(initialise, model, init, place, quiet) if init else None
    facts = facts_of(model, pictures, data, document)
    fit(model, partial(sources, model, pictures, data), facts, document, run, train_config, override, quiet, begin)


def sources(model: Family, pictures: Pictures, data: Path) -> tuple[Source, Source | None]:
    """Training and held-out pictures as the model wants them. Raises InputError where nothing is left to train on."""
    training, held = pictures.split(False), pictures.split(True)
    if not len(training):
        raise InputError(f"{data}: every picture is held out; nothing is left to train on")
    return model.source(training, model.device), model.source(held, model.device) if len(held) else None


def fit(
    model: Family, sources: Callable[[], tuple[Source, Source | None]], facts: dict[str, Any], document: dict[str, Any],
    run: Run, train_config: Any, override: bool, quiet: bool, begin: Callable[[], None] | None = None,
) -> None:  # fmt: skip
    """Train the model in its run folder, or go on; `begin` is called before the first step of a new run. `document` is
    what a run is told apart by, `facts` what the model file says of its training."""
    from genctl.train.loop import Trainer

    with run.locked():
        resumed = run.begin(document, override)
        if begin and not resumed:
            begin()
        source, held_out = sources()
        seed = document["seed"]
        trainer = Trainer(
            model, source, held_out, run, train_config, seed, lambda line: shared.remark(f"genctl: {line}")
        )
        if resumed:
            trainer.resume()
            shared.remark(f"resuming {run.folder} at step {trainer.step}", quiet)
        _say_plan(model, trainer.autocast, model.device, train_config, quiet)
        with Display(quiet) as display:
            trainer.train(lambda: facts, display.show)
    verb = "sample" if "sample" in model.can else "encode PICTURE"
    prompt = ' --prompt "..."' if facts.get("prompts") else ' --class "..."' * ("class" in model.can)
    shared.remark(f"done: {run.model}; try: genctl {verb} --model {run.folder}{prompt}", quiet)
    print(run.model)


def _check_buildable(cls: type[Family], model_config: Any) -> None:
    """Raises UsageError for a configuration of which no network can be made."""
    import torch

    try:
        with torch.device("meta"):
            cls(model_config).prepare_training()
    except ValueError as error:
        raise UsageError(str(error)) from None


def _check_init(name: str, family: str) -> None:
    """Raises ModelError for no model, and UsageError for one of another family; without torch."""
    _, document = shared.describe(name)
    if document["family"] != family:
        raise UsageError(f"--init {name}: a model of family {document['family']}, not {family}")


def initialise(model: Family, name: str, device: Any, quiet: bool) -> None:
    """Start from another model's weights: tensors of the same name and shape are taken, and their share is said."""
    from genctl import files, hub
    from genctl.families.base import kept

    tensors, _ = files.load_tensors(hub.resolve(name))
    shared.remark_others(name, quiet)
    own = kept(model, model.state_dict())
    fitting = {key: value for key, value in tensors.items() if key in own and own[key].shape == value.shape}
    if not fitting:
        raise UsageError(f"--init {name}: none of its tensors fits this configuration")
    model.load_state_dict({key: value.to(device).float() for key, value in fitting.items()}, strict=False)
    share = f"{len(fitting)} of {len(own)} tensors"
    if 2 * len(fitting) < len(own):
        shared.remark(f"genctl: --init {name}: only {share} fit this configuration; all others begin at random", quiet)
    else:
        shared.remark(f"from {name}: {share}", quiet)


def _say_plan(model: Family, autocast: Any, device: Any, train_config: Any, quiet: bool) -> None:
    """What runs where, once."""
    count = sum(p.numel() for module in model.phases().values() for p in module.parameters())
    dtype = "bf16 autocast" if autocast._enabled else "fp32"
    bound = f"{train_config.minutes} minutes" if train_config.minutes else f"{train_config.steps} steps"
    shared.remark(f"{model.name}: {count / 1e6:.1f} M trained parameters on {device}, {dtype}, {bound}", quiet)


def _configs(name: str, values: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The model's, the trainer's and the data's configuration. Raises UsageError that names a wrong setting."""
    from genctl.data.pictures import DataConfig
    from genctl.families.base import family_class
    from genctl.train.optim import TrainConfig

    return (
        config.build(family_class(name).Config, values.get("model", {}), "model."),
        config.build(TrainConfig, values.get("train", {}), "train."),
        config.build(DataConfig, values.get("data", {}), "data."),
    )


def training_facts(document: dict[str, Any]) -> dict[str, Any]:
    return {"training": {"settings": document["train"], "seed": document["seed"], "init": document["init"]}}


def facts_of(model: Family, pictures: Pictures, folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    """What the model file records of its training, beside steps and minutes. A text-to-image model names the prompts
    that it was trained on, MOST_PROMPTS at most: to look up what to ask for, and to distill it without the data."""
    from genctl.data.pictures import DataConfig
    from genctl.metrics.samples import prompt_of

    licence = folder / "ATTRIBUTION.md"
    text = licence.read_text(encoding="utf-8") if licence.exists() else ""
    settings = {field.name: document["data"][field.name] for field in fields(DataConfig)}
    data = {"pictures": len(pictures), "fingerprint": pictures.fingerprint, "settings": settings, "attribution": text}
    facts = training_facts(document) | {"data": data}
    if "text" in model.can:
        said = (prompt_of(model, entry) for entry in pictures.split(False).entries)
        prompts = list(dict.fromkeys(filter(None, said)))
        count = min(len(prompts), MOST_PROMPTS)
        facts["prompts"] = [prompts[index * len(prompts) // count] for index in range(count)]
    return facts


class Display:
    """Progress on stderr: one line rewritten on a terminal, a plain line now and then elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.live, self.last = quiet, sys.stderr.isatty(), 0.0
        self.before: tuple[float, int] | None = None  # time and images of the last row
        self.speed = 0.0
        self.console: Any = None

    def __enter__(self) -> Display:
        if self.live and not self.quiet:
            from rich.console import Console
            from rich.live import Live

            self.console = Live(console=Console(stderr=True), refresh_per_second=2)
            self.console.start()
        return self

    def show(self, row: dict[str, Any]) -> None:
        now = time.monotonic()
        if self.quiet:
            return
        if "held_out_loss" in row:
            line = ", ".join(f"{k.removeprefix('held_out_')} {v:.4g}" for k, v in row.items() if k.startswith("held"))
            self._print(f"step {row['step']}: held out {line}")
            return
        line = self._line(row, now)
        if self.console:
            from rich.text import Text

            self.console.update(Text(line))
        elif now - self.last > LINE_SECONDS:
            self._print(line)
            self.last = now

    def _line(self, row: dict[str, Any], now: float) -> str:
        if self.before and now > self.before[0]:
            latest = (row["images"] - self.before[1]) / (now - self.before[0])
            self.speed = 0.8 * self.speed + 0.2 * latest if self.speed else latest
        self.before = (now, row["images"])
        left = row["minutes"] * (1 / max(row["progress"], 1e-6) - 1)
        figures = " ".join(f"{k} {v:.3f}" for k, v in row.items() if k in ("loss", "psnr", "lpips", "norm"))
        speed = f" {self.speed:.{0 if self.speed >= 10 else 1}f} images/s" if self.speed else ""
        return f"step {row['step']} {row['progress']:.0%} {figures}{speed}, {left:.0f} min left"

    def _print(self, line: str) -> None:
        if self.console:
            self.console.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self.console:
            self.console.stop()
