"""The files in weights/ as they are shipped: whole, fitting each other, and drawing what their cards say."""

import json
from dataclasses import replace

import pytest
import torch
from helpers import flow_request
from PIL import ImageStat
from torch import Tensor

from genctl import files, hub
from genctl.families.base import Request
from genctl.families.flow.flow import Flow
from genctl.families.flow.sample import together
from genctl.families.saved import load
from genctl.media.pictures import to_float, to_tensor
from genctl.metrics.clips import motion
from genctl.model import Model
from genctl.nets import fast
from genctl.nets.lpips import psnr
from genctl.sizes import Size

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


def flow_named(name: str) -> Flow:
    model = load(name)
    model.prepare()
    assert isinstance(model, Flow)
    return model


def drawn_together(model: Flow, request: Request) -> Tensor:
    return torch.cat([part.pictures for part in model.sample(request) if part.final])


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


@pytest.mark.slow
def test_the_fast_student_knows_its_guidance_scale(flows: tuple[Flow, Flow]) -> None:
    """In one step from the same noise; in four, noised anew on the way, by how far guidance spreads the codes."""
    teacher, student = flows
    weak, strong = (drawn(teacher, 20, scale) for scale in (1.5, 7.0))
    assert rms(drawn(student, 1, 1.5), weak) < 0.7 * rms(drawn(student, 1, 1.5), strong)
    spread = float(drawn(student, 4, 7.0).std() / drawn(student, 4, 1.5).std())
    assert spread == pytest.approx(float(strong.std() / weak.std()), rel=0.15)


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True, reason="in one step, the only one from the same noise, the shipped student guides too weakly at 7"
)
def test_the_fast_student_guides_as_strongly_as_its_teacher(flows: tuple[Flow, Flow]) -> None:
    teacher, student = flows
    weak, strong = (drawn(teacher, 20, scale) for scale in (1.5, 7.0))
    assert rms(drawn(student, 1, 7.0), strong) < rms(drawn(student, 1, 7.0), weak)


@pytest.mark.parametrize("name", ["ldm", "ldm-fast", "rf"])
def test_a_picture_of_a_shipped_model_does_not_depend_on_its_batch(name: str) -> None:
    """At real shapes, in the numbers that are fastest here (in bf16, AMX rounds by the number of rows)."""
    model = flow_named(name)
    sizes = [None, Size.of("192x128")] if name == "ldm" else [None]
    for size in sizes:
        request = flow_request([10, 11, 12], ["cat", "red apple", "dog"], steps=2, cfg=4.0, size=size)
        made = drawn_together(model, request)
        for index, (seed, prompt) in enumerate(zip(request.seeds, request.conditions, strict=True)):
            alone = drawn_together(model, replace(request, seeds=[seed], conditions=[prompt]))
            assert torch.equal(made[index : index + 1], alone)


def test_the_shipped_dcgan_knows_its_classes() -> None:
    """Of nine seeds each: trousers are higher than wide, sneakers wider than high; alone as in a batch."""
    model = Model(load("dcgan", torch.device("cpu")), "dcgan")
    shapes = {}
    for name in ("trouser", "sneaker"):
        drawn = model.draw(class_name=name, n=9, seed=1)
        assert drawn[4].tobytes() == model.draw(class_name=name, seed=5)[0].tobytes()
        boxes = [picture.convert("L").point(lambda level: 255 * (level > 100)).getbbox() for picture in drawn]
        shapes[name] = [(right - left) / (bottom - top) for left, top, right, bottom in boxes]  # type: ignore[misc]
    assert max(shapes["trouser"]) < 0.8
    assert min(shapes["sneaker"]) > 1.3


def test_the_shipped_gan_heeds_colours() -> None:
    """Of nine seeds each: hearts that are asked for in blue are, and those in red; alone as in a batch."""
    model = Model(load("gan", torch.device("cpu")), "gan")
    for prompt, channel in (("blue heart", 2), ("red heart", 0)):
        drawn = model.draw(prompt, n=9, seed=1)
        assert drawn[4].tobytes() == model.draw(prompt, seed=5)[0].tobytes()
        for picture in drawn:
            middle = ImageStat.Stat(picture.crop((24, 24, 40, 40))).mean
            assert middle[channel] == max(middle)


def test_a_picture_of_no_prompt_does_not_depend_on_the_prompts_beside_it() -> None:
    """A student is conditioned on its guidance scale, which is 1 where nothing is asked for."""
    student = Model(flow_named("ldm-fast"), "ldm-fast")
    together, alone = student.draw(["cat", ""], seed=3, steps=1), student.draw("", seed=3, steps=1)
    assert together[1].tobytes() == alone[0].tobytes()


def test_kernels_that_round_by_the_number_of_rows_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As AMX has them: here they are made so, and a picture is then drawn alone."""
    exact = fast.linear

    def rounded(weight: torch.Tensor, bias: torch.Tensor | None = None, activation: str = "none") -> fast.Linear:
        call = exact(weight, bias, activation)
        return lambda x: call(x) * (1 + 2.0**-22 * (x[..., 0].numel() % 3))

    asked = flow_request([10, 11, 12, 13, 14], ["cat"] * 5, steps=1, dtype=torch.float32)
    assert together(flow_named("ldm"), asked) == asked.chunk
    monkeypatch.setattr(fast, "linear", rounded)
    model = flow_named("ldm")
    assert together(model, asked) == 1
    assert torch.equal(
        drawn_together(model, asked)[:1], drawn_together(model, replace(asked, seeds=[10], conditions=["cat"]))
    )


def test_the_shipped_video_moves_as_clips_do() -> None:
    """Of four prompts: neither frozen nor noise, and frames in order differ less than shuffled ones; a given first
    frame stays."""
    model = Model(load("video", torch.device("cpu")), "video")
    clips = model.draw(["cat, 3d style", "dog, 3d style", "red apple, 3d style", "heart, 3d style"], seed=1, steps=8)
    pixels = torch.stack([torch.stack([to_float(to_tensor(frame)) for frame in clip], 1) for clip in clips])
    found = motion(pixels)
    assert pixels.shape == (4, 3, 17, 64, 64)
    assert 0.004 < float(found["difference"].mean()) < 0.06
    assert float(found["order"].mean()) < 0.95
    moved = model.draw("cat, 3d style", seed=2, steps=8, image=clips[0][0])[0]
    assert float(psnr(to_float(to_tensor(moved[0]))[None], pixels[:1, :, 0])) > 22
