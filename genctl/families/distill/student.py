"""Distillation: a student that needs few steps, from any trained flow."""

from __future__ import annotations

from dataclasses import replace

from genctl.families.distill.adversarial import Adversarial
from genctl.families.distill.consistency import Consistency
from genctl.families.distill.dmd import DMD
from genctl.families.distill.frechet import Frechet
from genctl.families.distill.lesson import Lesson
from genctl.families.distill.meanflow import MeanFlow
from genctl.families.distill.progressive import Progressive
from genctl.families.distill.reflow import Reflow
from genctl.families.distill.settings import DistillConfig
from genctl.families.flow.flow import Flow

METHODS: dict[str, type[Lesson]] = {
    lesson.name: lesson for lesson in (Consistency, MeanFlow, Progressive, Reflow, DMD, Adversarial, Frechet)
}


def student_of(teacher: Flow, method: str, steps: int, config: DistillConfig, init: Flow | None = None) -> Flow:
    """A student with the teacher's configuration and weights, conditioned on what the method wants, sampled in
    `steps` steps. It goes on from an earlier student `init` of the same teacher where there is one."""
    lesson = METHODS[method](teacher, config, init.config.net.scalars if init is not None else ())
    sampling = replace(teacher.config.sampling, steps=steps, solver=lesson.solver)
    settings = teacher.with_net(teacher.config, scalars=lesson.scalars, dropout=0.0)  # a guess is compared with a guess
    student = type(teacher)(replace(settings, sampling=sampling))
    student.net.load_state_dict((init or teacher).net.state_dict(), strict=False)
    student.parts, student.used = teacher.parts, teacher.used
    student.file, student.trusted = teacher.file, teacher.trusted
    student.info = {"parts": teacher.info.get("parts", {})}  # so that it takes no other codec than its teacher's
    student.objective = lesson
    lesson.begin(student)
    return student.to(teacher.device)
