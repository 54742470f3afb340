"""Distillation: a student that needs few steps, from any trained flow."""

from __future__ import annotations

from dataclasses import replace

from genctl.families.distill.consistency import Consistency
from genctl.families.distill.lesson import DistillConfig, Lesson
from genctl.families.distill.meanflow import MeanFlow
from genctl.families.distill.progressive import Progressive
from genctl.families.distill.reflow import Reflow
from genctl.families.flow import Flow

METHODS: dict[str, type[Lesson]] = {lesson.name: lesson for lesson in (Consistency, MeanFlow, Progressive, Reflow)}


def student_of(teacher: Flow, method: str, steps: int, config: DistillConfig) -> Flow:
    """A student with the teacher's configuration and weights, told what the method wants, sampled in `steps` steps."""
    cls = METHODS[method]
    sampling = replace(teacher.config.sampling, steps=steps, solver=cls.solver)
    settings = teacher.with_net(teacher.config, scalars=cls.scalars)
    student = type(teacher)(replace(settings, sampling=sampling))
    student.net.load_state_dict(teacher.net.state_dict(), strict=False)
    student.parts, student.used = teacher.parts, teacher.used
    student.lesson = cls(teacher, config)
    student.lesson.begin(student)
    return student.to(teacher.device)
