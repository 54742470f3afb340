"""Copies are found, and distances order what is near and far."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import shape_folder
from torch import Tensor

from genctl.data.folder import Entry
from genctl.data.pictures import DataConfig, Pictures, load
from genctl.errors import InputError
from genctl.families.flow.options import FlowOptions
from genctl.families.saved import load as load_model
from genctl.metrics import evaluate, samples
from genctl.metrics.samples import distances, draw_like, memorised, nearest_two, prompt_of


@pytest.fixture
def shapes(tmp_path: Path) -> Pictures:
    return load(shape_folder(tmp_path / "data", 2), 32, DataConfig())


def test_nearest_two_is_the_slow_search(shapes: Pictures) -> None:
    made = torch.rand(5, 3, 32, 32) * 2 - 1
    training = shapes.split(False)
    training.pixels[1] = training.pixels[0]  # drawn twice
    real = torch.unique(training.pixels, dim=0).float() / 127.5 - 1
    assert len(real) == len(training) - 1
    made[0] = real[0]
    slow = torch.stack([(real - one).square().mean((1, 2, 3)).sqrt().sort().values[:2] for one in made])
    assert torch.allclose(nearest_two(made, training), slow, atol=1e-4)


def test_copies_are_found(shapes: Pictures) -> None:
    training = shapes.split(False)
    copies = training.pixels[:4].float() / 127.5 - 1 + 0.001 * torch.randn(4, 3, 32, 32)
    fresh = torch.rand(6, 3, 32, 32) * 2 - 1
    found = memorised(torch.cat([copies, fresh]), shapes)
    assert found["copies"] == 0.4
    assert found["count"] == 10
    assert found["held_out"]["count"] == len(shapes.split(True))


def test_distances_order_near_and_far(shapes: Pictures) -> None:
    model = load_like()
    near = shapes.split(True).pixels.float() / 127.5 - 1
    far = torch.rand(len(near), 3, 32, 32) * 2 - 1
    close, apart = distances(model, near, shapes), distances(model, far, shapes)
    assert close["frechet"] == close["floor"]["frechet"]  # they are the held-out pictures themselves
    assert apart["frechet"] > 2 * close["frechet"]
    assert apart["kernel_x1000"] > close["kernel_x1000"]
    assert close["extractor"] == "efficientnet_lite0"


def test_the_floor_is_of_held_out_pictures_of_every_kind_and_of_as_many_as_are_drawn(
    shapes: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "extractor", lambda device: None)
    held = torch.arange(40.0)[:, None].expand(40, 4)  # in the order of the folder
    real = torch.randn(200, 4, generator=torch.Generator().manual_seed(0)) * 12 + 20
    entries = [Entry(Path("a"), held_out=row < 40) for row in range(240)]
    monkeypatch.setattr(samples, "real_features", lambda *_, **__: torch.cat([held, real]))
    monkeypatch.setattr(samples, "features_of", lambda net, made: made)
    seen: list[Tensor] = []
    monkeypatch.setattr(
        samples, "against", lambda x, real: seen.append(x) or {"count": len(x), "frechet": 1.0 * len(x)}
    )
    told = distances(load_like(), real[:20], replace(shapes, entries=entries))
    assert told["floor"]["count"] == 20
    assert "as_few" not in told
    assert seen[1][:, 0].max() > 30  # not the first twenty
    told = distances(load_like(), real[:80], replace(shapes, entries=entries))
    assert told["count"] == 80
    assert told["floor"]["count"] == told["as_few"]["count"] == 40


def test_what_is_measured_unasked_can_be_measured(models: Path, shapes: Pictures) -> None:
    model = load_model("tiny-ldm")
    assert evaluate.default_kinds(model, shapes) == ["distance"]  # two pictures of each thing in each style
    once = list({(entry.concept, entry.style): entry for entry in shapes.entries}.values())
    assert evaluate.default_kinds(model, replace(shapes, entries=once)) == ["retrieval"]


def test_distances_want_training_pictures(models: Path, shapes: Pictures) -> None:
    with pytest.raises(InputError, match="all pictures are held out"):
        evaluate.samples(
            load_model("tiny-ldm"), shapes.split(True), ["distance"], 4, None, lambda name: lambda a, b: None
        )


def load_like() -> object:
    class Anything:
        device = torch.device("cpu")

    return Anything()


def test_samples_are_asked_for_as_the_data_are_described(models: Path, shapes: Pictures) -> None:
    model = load_model("tiny-ldm")
    assert prompt_of(model, shapes.entries[0]).endswith("style")
    counts: list[int] = []
    made = draw_like(model, shapes, 3, FlowOptions(steps=1), lambda done, total: counts.append(done))
    assert made.shape == (3, 3, 32, 32)
    assert counts[-1] == 3
    assert torch.equal(made, draw_like(model, shapes, 3, FlowOptions(steps=1), lambda done, total: None))


def test_a_copy_is_three_times_nearer_to_one_than_to_the_next(tmp_path: Path) -> None:
    training = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    training[1] = 255
    pictures = Pictures(training, [Entry(tmp_path), Entry(tmp_path)], "x", DataConfig(), [])
    made = torch.tensor([-1 + 2 * share for share in (0.24, 0.26, 0.5, 0.76)])[:, None, None, None].expand(4, 3, 4, 4)
    assert memorised(made, pictures)["copies"] == 0.5  # .24 : .76 twice; not .26 : .74 and .5 : .5
    same = Pictures(training[:1].repeat(2, 1, 1, 1), pictures.entries, "x", DataConfig(), [])
    with pytest.raises(InputError, match="two different training pictures"):
        memorised(made, same)
