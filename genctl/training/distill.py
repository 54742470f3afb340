"""Distilling a trained flow into a student of few steps; the same call again resumes. `genctl distill` is this with
flags."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import torch

from genctl import __version__, config, hub
from genctl.data.pictures import DataConfig
from genctl.devices import device_of, set_threads
from genctl.errors import UsageError
from genctl.families.base import Source
from genctl.families.conditions.captions import prompt_of
from genctl.families.distill.settings import (
    WITHOUT_PICTURES,
    DistillConfig,
    Method,
    asked_of,
    checked,
)
from genctl.families.distill.source import Drawn
from genctl.families.distill.student import student_of
from genctl.families.flow.flow import Flow
from genctl.families.registry import DRAWS
from genctl.families.saved import load as load_model
from genctl.nets.fast import keep_memory
from genctl.training.initial import NONE
from genctl.training.loop import Report
from genctl.training.optim import TrainConfig, check, with_length
from genctl.training.run import Run
from genctl.training.train import Remark, check_previews, default_preset, facts_of, fit, sources, training_facts

PAIRS, HELD_PAIRS = 4096, 64  # that the teacher draws where no data are given, and for the held-out figures
PREPARED = 1 / 3  # of the minutes at most that the teacher draws, where nobody says how many pictures


def distill(
    model: str = DRAWS, steps: int = 1, output: str | Path | None = None, *, method: str | None = None,
    data: str | Path | None = None, prompts: list[str] | None = None, pairs: int | None = None,
    init: str | None = None, preset: str | None = None, minutes: float | None = None, updates: int | None = None,
    settings: Mapping[str, Any] | None = None, seed: int = 0, threads: int | None = None, override: bool = False,
    device: str = "auto", trust: bool = False, sample_prompts: list[str] | None = None,
    report: Report = lambda row: None, remark: Remark = lambda line: None,
) -> Path:  # fmt: skip
    """Make a student of a trained flow that draws in `steps` steps, and return its model file.

    It learns from `data` (a folder), or without any from its teacher's own pictures of `prompts` (those in the
    teacher's file): `pairs` of them, else as many as a third of the minutes allows, or as the updates see. `trust`: the
    teacher's file may name a codec elsewhere. For the rest see `genctl.train`.
    """
    document, _ = hub.read_document(hub.resolve(model))
    init = None if init == NONE else init
    method = checked(document, model, method, data, prompts, pairs, init)
    texts = None if data is not None else asked_of(document, model, prompts)
    values = settings_of(method, preset or default_preset("distill", device) or "cpu", minutes, updates, settings or {})
    for section in values:
        if section not in ("train", "distill", *(("data",) if data else ())):
            raise UsageError(f"--set section {section}: not one of train, distill")
    shown = hub.plain_name(model)
    run = Run(Path(output or Path("runs") / f"{shown}-fast"))
    run.check()
    run.refuse_second()
    set_threads(threads)
    train_config = config.build(TrainConfig, values.get("train", {}), "train.")
    lesson = config.build(DistillConfig, values.get("distill", {}), "distill.")
    check(train_config)
    teacher, begun = (None if name is None else _prepared(name, device, trust) for name in (model, init))
    assert isinstance(teacher, Flow)
    assert begun is None or isinstance(begun, Flow)
    keep_memory()
    torch.manual_seed(seed)
    student = student_of(teacher, method, steps, lesson, begun)
    check_previews(teacher, sample_prompts)
    teacher.watch = lambda stage, done, of: report({"stage": stage, "step": done, "of": of})
    seconds: float | None = None
    if method not in WITHOUT_PICTURES and pairs is None and data is None:
        pairs, seconds = pairs_of(run, train_config)
    held_texts: list[str] = []
    document = {
        "family": student.name, "config": config.to_dict(student.config), "train": config.to_dict(train_config),
        "seed": seed, "init": hub.plain_name(init) if init else shown, "data": {"pairs": pairs}, "version": __version__,
        "teacher": {"name": shown, "sha256": teacher.weights_sha256, "method": method, "steps": steps,
                    "settings": config.to_dict(lesson)},
    }  # fmt: skip
    kept = ("data", "prompts", "words", "licence")
    facts: dict[str, Any] = {key: value for key, value in teacher.info.items() if key in kept}
    facts |= training_facts(document) | {"teacher": document["teacher"] | {"pairs": pairs}}
    make: Any = None
    if data is not None:
        # as the teacher's, but for its many views of each picture: a student sees each too seldom for them
        recorded = teacher.info.get("data", {}).get("settings", {}) | {"views": None}
        data_config = config.build(DataConfig, config.merge(recorded, values.get("data", {})), "data.")
        pictures = teacher.load_data(teacher.config, Path(data), data_config, remark)
        remark(f"data: {pictures.summary} ({data_config.fit} to {teacher.pixels.plain} px)")
        document["data"] |= config.to_dict(data_config) | pictures.identity | {"fingerprint": pictures.fingerprint}
        facts |= facts_of(student, pictures, document)
        make = functools.partial(sources, student, pictures, Path(data))
        texts, held_texts = ([prompt_of(teacher, e) for e in pictures.split(held).entries] for held in (False, True))
    if data is None or pairs is not None:
        document["data"]["prompts"] = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
        make = functools.partial(
            _drawn, teacher, texts or [""], held_texts or texts or [""], pairs, lesson, report, remark, seconds,
            functools.partial(_note_pairs, document, facts),
        )  # fmt: skip
    return fit(
        student, make, facts, document, run, train_config, override, report, remark, sample_prompts=sample_prompts,
        hint="" if init else earlier_hint(teacher),
    )  # fmt: skip


def pairs_of(run: Run, train_config: TrainConfig) -> tuple[int, float | None]:
    """How many pictures the teacher draws where nobody says, and for how many seconds at most: as many as the run has
    had, else those that its updates see, else what a part of its minutes allows."""
    had = run.recorded("data", "pairs") if run.states() else None
    if type(had) is int and had > 0:
        return had, None
    if train_config.steps:
        return min(PAIRS, train_config.steps * train_config.batch), None
    return PAIRS, 60 * PREPARED * (train_config.minutes or 0)


def _note_pairs(document: dict[str, Any], facts: dict[str, Any], pairs: int) -> None:
    document["data"]["pairs"] = pairs
    facts["teacher"] = facts["teacher"] | {"pairs": pairs}


def earlier_hint(teacher: Flow) -> str:
    """Which shipped student of this teacher there is to go on from."""
    for name, row in hub.index().items():
        path = hub.weights_folder() / str(row.get("file"))
        found = hub.read_document(path)[0] if row.get("kind") == "model" and path.exists() else {}
        if found.get("teacher", {}).get("sha256") == teacher.weights_sha256:
            return f"--init {name} begins from the shipped student"
    return ""


def _prepared(name: str, device: str, trust: bool) -> Any:
    model = load_model(name, device_of(device), trusted=trust)
    model.prepare()
    return model


def settings_of(
    method: str, preset: str, minutes: float | None, updates: int | None, over: Mapping[str, Any]
) -> dict[str, Any]:
    """The preset's settings with those of the method, then the length, then what is laid over."""
    values = config.load_preset("distill", preset)
    own = values.get(method, {})
    values = config.merge({key: part for key, part in values.items() if key not in get_args(Method)}, own)
    return config.merge(with_length(values, minutes, updates, "--updates"), over)


def _drawn(
    teacher: Flow, prompts: list[str], held_out: list[str], pairs: int | None, settings: DistillConfig, report: Report,
    remark: Remark, seconds: float | None, note: Callable[[int], None],
) -> tuple[Source, Source | None]:  # fmt: skip
    """Sources of the teacher's own pictures, or of prompts alone. Held out is the noise, and the prompts where a folder
    has such."""
    count, begun = pairs or len(prompts), False

    def drawing(done: int, total: int, left: float) -> None:
        nonlocal begun
        if not begun:
            most = "" if seconds is None else f", for {seconds:.0f} s at most, a third of the minutes"
            remark(f"the teacher draws up to {total:,} pictures first (kept in the cache){most}")
        begun = True
        report({"stage": "teacher draws", "step": done, "of": total} | ({"left": round(left)} if left < 1e9 else {}))

    made = Drawn(teacher, prompts, count, settings, pairs is not None, "training", drawing, seconds)
    if pairs is not None:
        note(len(made.asked))
        if len(made.asked) < count:
            remark(f"{len(made.asked):,} pictures of the teacher, as many as its time allowed; --pairs N draws N")
    return made, Drawn(teacher, held_out, HELD_PAIRS, settings, False, "held out")
