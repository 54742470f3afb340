"""Training a family on a folder, from its settings to its model file; the same call again resumes. `genctl train` is
this with flags."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from genctl import __version__, config, hub
from genctl.data.captions import variants
from genctl.data.pictures import DataConfig, Pictures
from genctl.devices import device_of, memory_bytes, set_threads
from genctl.errors import InputError, UsageError, nearest
from genctl.families import registry
from genctl.families.base import Family, Source
from genctl.families.conditions.captions import prompt_of
from genctl.families.conditions.words import vocabulary
from genctl.nets.fast import keep_memory
from genctl.text import shown
from genctl.training.initial import chosen, initialise
from genctl.training.loop import Report, Trainer
from genctl.training.optim import TrainConfig, check, with_length
from genctl.training.run import Run
from genctl.training.score import Score
from genctl.training.verdict import verdict

MOST_PROMPTS = 2048  # in a model file
MOST_PREVIEWS = 64  # pictures of a sheet under samples/
BYTES_A_PARAMETER = 20  # in training: weight, gradient, average, two moments
MOST_PROMPT_BYTES = 4 << 20  # of all of them
Remark = Callable[[str], None]


def train(
    data: str | Path, model: str = registry.DRAWS, output: str | Path | None = None, *, preset: str | None = None,
    minutes: float | None = None, steps: int | None = None, init: str | None = None,
    settings: Mapping[str, Any] | None = None, seed: int = 0, threads: int | None = None, override: bool = False,
    device: str = "auto", sample_prompts: list[str] | None = None,
    report: Report = lambda row: None, remark: Remark = lambda line: None,
) -> Path:  # fmt: skip
    """Train a family on a folder of pictures and return its model file; called again it resumes, with more `minutes` or
    `steps` it goes on.

    init: the model to begin from; where it is not said, the shipped one of this kind if it fits, "none" for random
    weights. sample_prompts: what the sheets under samples/ are asked for, else some of the data's own. settings: nested
    tables over the preset's, as {"train": {"batch": 32}}. report gets the logged figures of each row
    of metrics.jsonl, remark a line now and then that a person should read. Raises GenctlError; KeyboardInterrupt once
    the state is saved.
    """
    if model not in registry.trainable():
        raise UsageError(f"--model {model}: not one of {', '.join(registry.trainable())}")
    values = settings_of(model, preset or default_preset(model, device), minutes, steps, settings or {})
    run = Run(Path(output or Path("runs") / model))
    run.check()
    run.refuse_second()
    set_threads(threads)
    cls: type[Family] = registry.family_class(model)
    model_config, train_config, data_config = configs(model, values)
    model_config = cls.settled(earlier_parts(model_config, run))
    check(train_config)
    place = device_of(device)
    _check_buildable(cls, model_config, place)  # before the data are read, which takes its time
    keep_memory()
    pictures = cls.load_data(model_config, Path(data), data_config, remark)
    remark(f"data: {pictures.summary} ({data_config.fit} to {model_config.pixels.plain} px)")
    model_config = cls.fitted(model_config, pictures)
    torch.manual_seed(seed)  # of the initial weights
    family = cls(model_config).to(place)
    family.prepare_training()
    check_previews(family, sample_prompts)
    begun = chosen(family, init, run)
    document = {
        "family": model, "config": config.to_dict(model_config), "train": config.to_dict(train_config),
        "data": config.to_dict(data_config) | pictures.identity | {"fingerprint": pictures.fingerprint}, "seed": seed,
        "init": begun,
        "parts": cls.part_hashes(model_config), "version": __version__,
    }  # fmt: skip
    captioned = any(entry.captions or entry.tags for entry in pictures.entries)
    if "text" in family.can and not captioned:
        how = "name class folders, put a .txt beside each picture, or a metadata.jsonl"
        remark(f"genctl: {shown(data)}: no captions, so the model will not know any prompt; {how}")

    def begin() -> None:
        if begun:
            initialise(family, begun, place, remark, init is not None)
        for line in family.judged(pictures):
            remark(f"genctl: {shown(data)}: {line}")

    facts = facts_of(family, pictures, document)
    made = functools.partial(sources, family, pictures, Path(data))
    score = Score(pictures) if family.scored else None
    return fit(
        family, made, facts, document, run, train_config, override, report, remark, begin, sample_prompts, score=score
    )


def earlier_parts(model_config: Any, run: Run) -> Any:
    """The configuration with the names by which the shipped parts that a run was begun with are found now."""
    found = run.recorded("parts") if run.states() else None
    recorded = found if isinstance(found, dict) else {}
    names = {part: getattr(model_config, part, None) for part in recorded}
    now = {part: hub.now_called(name, recorded[part]) for part, name in names.items()}
    return replace(model_config, **{part: name for part, name in now.items() if name != names[part]})


def default_preset(family: str, device: str) -> str | None:
    """gpu where there is one, else cpu; None for a family without presets, whose configuration's defaults count."""
    known = config.presets(family)
    wanted = "cpu" if device_of(device).type == "cpu" else "gpu"
    return wanted if wanted in known else "cpu" if "cpu" in known else None


def settings_of(
    family: str, preset: str | None, minutes: float | None, steps: int | None, over: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings: preset, then the length, then what is laid over. Raises UsageError for an unknown section."""
    values = config.load_preset(family, preset) if preset else {}
    values = config.merge(with_length(values, minutes, steps), over)
    for section in values:
        if section not in ("model", "train", "data"):
            raise UsageError(f"--set section {section}: not one of model, train, data")
    return values


def configs(family: str, values: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """The model's, the trainer's and the data's configuration. Raises UsageError that names a wrong setting."""
    return (
        config.build(registry.family_class(family).Config, values.get("model", {}), "model."),
        config.build(TrainConfig, values.get("train", {}), "train."),
        config.build(DataConfig, values.get("data", {}), "data."),
    )


def sources(family: Family, pictures: Pictures, data: Path) -> tuple[Source, Source | None]:
    """Training and held-out pictures as the model wants them. Raises InputError where nothing is left to train on."""
    training, held = pictures.split(False), pictures.split(True)
    if not len(training):
        raise InputError(f"{data}: every picture is held out; nothing is left to train on")
    return family.source(training, family.device), family.source(held, family.device) if len(held) else None


def fit(
    family: Family, sources: Callable[[], tuple[Source, Source | None]], facts: dict[str, Any],
    document: dict[str, Any], run: Run, train_config: TrainConfig, override: bool, report: Report, remark: Remark,
    begin: Callable[[], None] | None = None, sample_prompts: list[str] | None = None, hint: str = "",
    score: Score | None = None,
) -> Path:  # fmt: skip
    """Train the model in its run folder, or go on; `begin` is called before the first step of a new run. `document` is
    what a run is told apart by, `facts` what the model file says of its training. What the sources take to make counts
    towards the minutes. `hint` closes the verdict on a run that is not ready; see Keeper for `score`."""
    family.watch = lambda stage, done, of: report({"stage": stage, "step": done, "of": of})
    with run.locked():
        resumed = run.begin(document, override)
        if begin and not resumed:
            begin()
        started = time.monotonic()
        source, held_out = sources()
        if not resumed:
            run.record(document)
        if sample_prompts:
            setattr(source, "preview_prompts", sample_prompts)  # noqa: B010  # of sources that have such
        prepared = (time.monotonic() - started) / 60
        trainer = Trainer(family, source, held_out, run, train_config, document["seed"], remark, prepared, score)
        if resumed:
            trainer.resume()
            run.record(document)  # not before: what is refused leaves the run as it was
            remark(f"resuming {run.folder} at step {trainer.step}")
        remark(_plan(family, trainer.autocast, train_config))
        trainer.train(lambda: facts, report)
    remark(verdict(run, hint))
    verb = "sample" if "sample" in family.can else "encode PICTURE"
    prompt = ' --prompt "..."' if facts.get("prompts") else ' --class "..."' * ("class" in family.can)
    remark(f"done: {run.model}; try: genctl {verb} --model {run.folder}{prompt}")
    return run.model


def check_previews(family: Family, prompts: list[str] | None) -> None:
    """Raise UsageError for prompts that no sheet of this model can be asked for."""
    if prompts is None:
        return
    if not {"text", "class"} & set(family.can):
        raise UsageError(f"--sample-prompts: this {family.name} takes no condition; leave it out")
    if not 0 < len(prompts) <= MOST_PREVIEWS:
        raise UsageError(f"--sample-prompts: {len(prompts)} prompts; a sheet has 1 to {MOST_PREVIEWS}")
    classes = list(family.config.classes) if "class" in family.can else prompts
    for text in prompts:
        if text not in classes:
            raise UsageError(f"--sample-prompts: no class {text!r}{nearest(text, classes)}")


def _check_buildable(cls: type[Family], model_config: Any, place: torch.device) -> None:
    """Raises UsageError for a configuration of which no network can be made, or none that fits the memory."""
    try:
        with torch.device("meta"):
            family = cls(model_config)
            family.prepare_training()
    except (ValueError, RuntimeError, ArithmeticError, IndexError) as error:
        raise UsageError(f"no network can be made of these settings: {' '.join(str(error).split())[:200]}") from None
    count = sum(parameter.numel() for parameter in family.parameters())
    room = memory_bytes()
    if place.type == "cpu" and room and BYTES_A_PARAMETER * count > room:
        wanted = f"training them takes {BYTES_A_PARAMETER * count / 1e9:,.0f} GB"
        raise UsageError(f"{count / 1e6:,.0f} M parameters: {wanted}, this machine has {room / 1e9:.0f}; a smaller net")


def _plan(family: Family, autocast: Any, train_config: TrainConfig) -> str:
    """What runs where, once."""
    count = sum(p.numel() for module in family.phases().values() for p in module.parameters())
    dtype = "bf16 autocast" if autocast._enabled else "fp32"
    bound = f"{train_config.minutes} minutes" if train_config.minutes else f"{train_config.steps} steps"
    return f"{family.name}: {count / 1e6:.1f} M trained parameters on {family.device}, {dtype}, {bound}"


def training_facts(document: dict[str, Any]) -> dict[str, Any]:
    begun = document["init"]
    init = hub.plain_name(begun) if begun else begun  # its path stays in the run folder
    return {"training": {"settings": document["train"], "seed": document["seed"], "init": init}}


def facts_of(family: Family, pictures: Pictures, document: dict[str, Any]) -> dict[str, Any]:
    """What the model file records of its training, beside steps and minutes. A text-to-image model names the prompts
    that it was trained on, MOST_PROMPTS at most, to look up what to ask for and to distill it without the data; and
    the words of all its captions."""
    settings = {field.name: document["data"][field.name] for field in fields(DataConfig)}
    data = {"pictures": len(pictures), "fingerprint": pictures.fingerprint, "settings": settings,
            "attribution": pictures.attribution}  # fmt: skip
    facts = training_facts(document) | {"data": data}
    if "text" in family.can:
        said = (prompt_of(family, entry) for entry in pictures.split(False).entries)
        prompts = list(dict.fromkeys(filter(None, said)))
        facts["prompts"] = _recorded(prompts)
        facts["words"] = vocabulary(text for entry in pictures.split(False).entries for text, _ in variants(entry))
    return facts


def _recorded(prompts: list[str]) -> list[str]:
    """As many of the prompts, spread over all, as a file's header has room for."""
    count = min(len(prompts), MOST_PROMPTS)
    while True:
        chosen = [prompts[index * len(prompts) // count] for index in range(count)]
        if len(json.dumps(chosen)) <= MOST_PROMPT_BYTES:
            return chosen
        count //= 2
