"""The files in weights/ as they are shipped: whole, fitting each other, and drawing what their cards say."""

import json

import pytest
from helpers import flow_request
from torch import Tensor

from genctl import files, hub
from genctl.families.flow.flow import Flow
from genctl.families.saved import load

INDEX = json.loads((hub.weights_folder() / "index.json").read_text())
PROMPTS = ["cat", "red apple", "rocket", "smiling face, flat style", "pizza", "house", "dog", "bus"]


def weights_of(name: str) -> str:
    path = hub.weights_folder() / f"{name}.safetensors"
    return hub.weights_sha256(path, files.read_header(path))


@pytest.mark.parametrize("name", INDEX)
def test_a_shipped_file_is_whole_and_fits_the_others(name: str) -> None:
    path = hub.weights_folder() / INDEX[name]["file"]
    assert files.file_sha256(path) == INDEX[name]["sha256"]
    assert path.with_suffix(".md").is_file()
    document = files.read_header(path).document
    for part in document.get("parts", {}).values():
        assert weights_of(part["name"]) == part["sha256"]
    if "teacher" in document:
        assert weights_of(document["teacher"]["name"]) == document["teacher"]["sha256"]


@pytest.fixture(scope="module")
def flows() -> tuple[Flow, Flow]:
    teacher, student = load("ldm"), load("ldm-fast")
    assert isinstance(teacher, Flow)
    assert isinstance(student, Flow)
    return teacher, student


def drawn(model: Flow, steps: int, scale: float = 4.0) -> Tensor:
    return model.drawn(flow_request([*range(8)], [*PROMPTS], steps=steps, guidance_scale=scale))


def rms(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt())


def test_the_fast_student_goes_where_its_teacher_goes(flows: tuple[Flow, Flow]) -> None:
    """From the same noise: nearer to where twenty steps of the teacher lead than as few of the teacher's own."""
    teacher, student = flows
    wanted = drawn(teacher, 20)
    for steps in (1, 2):
        assert rms(drawn(student, steps), wanted) < 0.9 * rms(drawn(teacher, steps), wanted)


def test_the_fast_student_knows_its_guidance_scale(flows: tuple[Flow, Flow]) -> None:
    teacher, student = flows
    weak, strong = (drawn(teacher, 20, scale) for scale in (1.5, 7.0))
    for steps in (1, 4):
        assert rms(drawn(student, steps, 1.5), weak) < 0.7 * rms(drawn(student, steps, 1.5), strong)
    assert rms(drawn(student, 4, 7.0), strong) < rms(drawn(student, 4, 7.0), weak)
