"""The optimal prediction of real pictures, run through the samplers."""

from pathlib import Path

import pytest
import torch
from helpers import flow_request, shape_folder

from genctl.data.pictures import DataConfig, load
from genctl.errors import UsageError
from genctl.families.base import Blend
from genctl.families.optimal import Optimal, OptimalConfig


@pytest.fixture
def model(tmp_path: Path) -> Optimal:
    pictures = load(shape_folder(tmp_path / "data", 2), 16, DataConfig())
    return Optimal(OptimalConfig(16), pictures, torch.device("cpu"))


def drawn(model: Optimal, **request: object) -> torch.Tensor:
    return torch.cat([part.pictures for part in model.sample(flow_request(**request)) if part.final])  # type: ignore[arg-type]


@pytest.mark.parametrize("solver", ["euler", "dpmpp_2m", "ancestral"])
def test_samples_land_on_training_pictures(model: Optimal, solver: str) -> None:
    made = drawn(model, seeds=list(range(6)), solver=solver)
    real = model.pictures.pixels.float() / 127.5 - 1
    nearest = torch.cdist(made.flatten(1), real.flatten(1)).min(1)
    assert (nearest.values / made[0].numel() ** 0.5).max() < 0.02
    assert len(set(nearest.indices.tolist())) > 1


def test_a_prompt_narrows_the_pictures(model: Optimal) -> None:
    made = drawn(model, seeds=[1, 2], prompts=["red circle", "green"])
    real = model.pictures.pixels.float() / 127.5 - 1
    nearest = torch.cdist(made.flatten(1), real.flatten(1)).argmin(1)
    assert model.pictures.entries[int(nearest[0])].captions == ("red circle",)
    assert "green" in model.pictures.entries[int(nearest[1])].tags
    with pytest.raises(UsageError, match="described as 'elephant'"):
        drawn(model, seeds=[1], prompts=["elephant"])


def test_pictures_do_not_depend_on_their_batch(model: Optimal) -> None:
    blend = Blend("red circle", "green circle", 0.5)
    together = drawn(model, seeds=[1, 2, 3], prompts=["red", "", blend], steps=5)
    assert torch.allclose(together[1:2], drawn(model, seeds=[2], prompts=[""], steps=5), atol=1e-5)
    assert torch.allclose(together[2:], drawn(model, seeds=[3], prompts=[blend], steps=5), atol=1e-5)
