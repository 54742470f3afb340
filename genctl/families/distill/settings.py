"""The methods of distillation and their settings, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from genctl import files, hub
from genctl.config import above, check, within
from genctl.errors import InputError, UsageError, nearest
from genctl.families.flow.options import scalars_of

Method = Literal["consistency", "meanflow", "progressive", "reflow", "dmd", "adversarial", "frechet"]
WITHOUT_PICTURES = ("dmd",)  # which learn from prompts alone


@dataclass(frozen=True)
class DistillConfig:
    """How a student is trained."""

    least_guidance: Annotated[float, above(0)] = 1.0  # scales are drawn evenly from here
    most_guidance: Annotated[float, above(0)] = 8.0  # to here, so that --cfg works at one step
    stages: Annotated[int, within(1, 1000)] = 8  # of a curriculum, where a method has one
    teacher_steps: Annotated[int, within(1, 10_000)] = 16  # that the teacher draws in, or halving begins from
    critic_updates: Annotated[int, within(1, 1000)] = 2  # of a second network, for each of the student's own
    critic_rate: Annotated[float, above(0)] = 10.0  # learning rate of a critic's heads, in units of the student's
    adversarial: Annotated[float, within(0)] = 0.2  # the critic's gradient in units of the other loss's

    def __post_init__(self) -> None:
        check(self, "distill.")
        if self.least_guidance > self.most_guidance:
            raise UsageError("distill.least_guidance wants to be at most distill.most_guidance")


def default_method(config: dict[str, Any]) -> Method:
    """What measured best at equal minutes (docs/measured.md) of the methods that such a model can learn by."""
    if config["diffusion"]["target"] == "x":
        return "dmd"
    return "consistency" if config["sampling"]["spacing"] in ("karras", "exponential") else "progressive"


def checked(
    document: dict[str, Any], model: str, method: str | None, data: Any, prompts: Any, pairs: int | None,
    init: str | None,
) -> Method:  # fmt: skip
    """The method, once it is known that this model can be distilled by it. Raises UsageError."""
    known = get_args(Method)
    if method is not None and method not in known:
        raise UsageError(f"--method {method}: not one of {', '.join(known)}{nearest(method, list(known))}")
    if data is not None and prompts is not None:
        raise UsageError("--prompts or --data, not both: pictures bring their own captions")
    if "diffusion" not in document["config"]:
        raise UsageError(f"a {document['family']} model ({model}) is no flow, and only flows can be distilled")
    if "teacher" in document:
        raise UsageError(
            f"{model} is a student itself; distill its teacher {document['teacher']['name']}, --init {model}"
        )
    if scalars_of(document):
        raise UsageError(f"{model} was trained for few steps already, and has no momentary velocity to teach")
    method = method or default_method(document["config"])
    if pairs is not None and method in WITHOUT_PICTURES:
        raise UsageError(f"--pairs has no effect on --method {method}, which learns from prompts alone; leave it out")
    if init is not None:
        path = hub.resolve(model)
        teacher = hub.read_document(hub.resolve(init))[0].get("teacher", {})
        if teacher.get("sha256") != hub.weights_sha256(path, files.read_header(path)):
            raise UsageError(f"--init {init}: is no student of {model}")
    return method  # type: ignore[return-value]


def asked_of(document: dict[str, Any], model: str, prompts: list[str] | None, source: str = "--prompts") -> list[str]:
    """What to ask the teacher for. Raises UsageError where nothing says."""
    can, classes = document["can"], list(document["config"].get("classes", []))
    if prompts is not None and not {"class", "text"} & set(can):
        raise UsageError(f"--prompts: {model} takes no condition; leave it out")
    if prompts is not None:
        if not prompts:
            raise InputError(f"{source}: holds no prompt")
        for line in prompts if "class" in can else []:
            if line not in classes:
                raise UsageError(f"{source}: {line}: not one of {', '.join(classes)}{nearest(line, classes)}")
        return prompts
    if "class" in can:
        return classes
    if "text" not in can:
        return [""]
    if not document.get("prompts"):
        raise UsageError(f"{model} does not say what it was trained on: give --data DIR or --prompts FILE")
    return list(document["prompts"])
