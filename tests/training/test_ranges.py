"""Settings out of range are usage errors that name the setting, before any data are read; in a model file they make it
one that cannot be used."""

import dataclasses
import json
import typing
from pathlib import Path

import pytest
import torch

from genctl import config, files
from genctl.cli.main import execute
from genctl.data.pictures import DataConfig
from genctl.families.adversarial.settings import GANConfig
from genctl.families.ar import ARConfig
from genctl.families.distill.settings import DistillConfig
from genctl.families.ldm import LDMConfig
from genctl.families.rf import RFConfig
from genctl.families.vae import VAEConfig
from genctl.families.vq import VQConfig
from genctl.training.optim import TrainConfig, make_optimisers, update

WRONG = [
    ("rf", "train.steps=-1", "train.steps is -1; it wants 1 or more"),
    ("rf", "train.steps=0", "train.steps is 0; it wants 1 or more"),
    ("rf", "train.minutes=-1", "train.minutes is -1.0; it wants 0 or more"),
    ("rf", "train.minutes=inf", "train.minutes is inf; it wants a finite number"),
    ("rf", "train.learning_rate=-1", "train.learning_rate is -1.0; it wants a number above 0"),
    ("rf", "train.learning_rate=0", "train.learning_rate is 0.0; it wants a number above 0"),
    ("rf", "train.betas=[1,1]", "train.betas is [1.0, 1.0]; it wants a number from 0 to below 1 each"),
    ("rf", "train.betas=[0.9,-1]", "train.betas"),
    ("rf", "train.decay=-1", "train.decay is -1.0; it wants a number from 0 to 1"),
    ("rf", "train.decay=2", "train.decay is 2.0"),
    ("rf", "train.clip=-1", "train.clip is -1.0; it wants 0 or more"),
    ("rf", "train.warmup=-1", "train.warmup is -1; it wants 0 or more"),
    ("rf", "train.save_minutes=-1", "train.save_minutes is -1.0"),
    ("rf", "train.early=2", "train.early is 2.0"),
    ("rf", "train.early=-1", "train.early is -1.0"),
    ("rf", "train.muon_size=0", "train.muon_size is 0.0"),
    ("rf", "train.weight_decay=-1", "train.weight_decay is -1.0"),
    ("rf", "train.ema=0.5", "train.ema is 0.5; it wants a number from 0 to below 0.28"),
    ("rf", "train.batch=0", "train.batch is 0; it wants a number from 1 to"),
    ("rf", "train.parts=0", "train.parts is 0"),
    ("rf", "train.log_steps=0", "train.log_steps is 0; it wants 1 or more"),
    ("rf", "data.held_out=1", "data.held_out is 1.0; it wants a number from 0 to below 1"),
    ("rf", "data.jitter=-1", "data.jitter is -1"),
    ("rf", "model.pixels=0", "model.pixels is 0"),
    ("rf", "model.pixels=-32", "model.pixels is -32"),
    ("rf", "model.unet.channels=[0,16]", "model.unet.channels is [0, 16]"),
    ("rf", "model.unet.channels=[]", "one entry a level"),
    ("rf", "model.unet.channels=[20,40]", "multiples of 16"),
    ("rf", "model.unet.blocks=-1", "model.unet.blocks is -1"),
    ("rf", "model.unet.head=0", "model.unet.head is 0"),
    ("rf", "model.unet.patch=0", "model.unet.patch is 0"),
    ("rf", "model.unet.dropout=1", "model.unet.dropout is 1.0"),
    ("rf", "model.unet.text_width=0", "model.unet.text_width is 0"),
    ("rf", 'model.unet.scalars=["speed"]', "model.unet.scalars is 'speed'"),
    ("rf", "model.dit.heads=0", "model.dit.heads is 0"),
    ("rf", "model.diffusion.shift=0", "model.diffusion.shift is 0.0; it wants a number above 0"),
    ("rf", "model.diffusion.condition_dropout=2", "model.diffusion.condition_dropout is 2.0"),
    ("rf", "model.diffusion.density_std=-1", "density_std is -1.0"),
    ("rf", "model.sampling.steps=0", "model.sampling.steps is 0"),
    ("rf", "model.sampling.guidance_interval=[2,3]", "model.sampling.guidance_interval"),
    ("rf", "model.sampling.guidance_interval=[0.9,0.1]", "guidance_interval is [0.9, 0.1]"),
    ("ldm", "model.net.depth=-1", "model.net.depth is -1; it wants a number from 1 to 1024"),
    ("ldm", "model.net.depth=1000000000", "model.net.depth is 1000000000"),
    ("ldm", "model.net.width=65536", "M parameters: training them takes"),
    ("ldm", "model.net.heads=3", "does not divide into 3 heads"),
    ("ldm", "model.net.mlp_ratio=0", "model.net.mlp_ratio is 0.0"),
    ("ldm", "model.net.text_slots=0", "model.net.text_slots is 0"),
    ("ldm", "model.factor=0", "model.factor is 0"),
    ("ldm", "model.channels=0", "model.channels is 0"),
    ("vae", "model.net.channels=[0,8]", "model.net.channels is [0, 8]"),
    ("vae", "model.net.channels=[-8,8]", "model.net.channels is [-8, 8]"),
    ("vae", "model.net.channels=[]", "one number a level"),
    ("vae", "model.net.latent=0", "model.net.latent is 0"),
    ("vae", "model.net.encoder_blocks=[-1,1]", "model.net.encoder_blocks"),
    ("vae", "model.loss.equivariance=-1", "model.loss.equivariance is -1.0"),
    ("vae", "model.loss.adversarial_from=2", "model.loss.adversarial_from is 2.0"),
    ("vae", "model.loss.critic_width=0", "model.loss.critic_width is 0"),
    ("vae", "model.loss.kl=-1", "model.loss.kl is -1.0"),
]


@pytest.mark.parametrize(("family", "setting", "words"), WRONG)
def test_a_setting_out_of_range_is_named_before_the_data_are_read(
    models: Path, family: str, setting: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ["--set", "model.codec=tiny-vae"] * (family == "ldm")
    assert execute(["train", "nowhere", "--model", family, "--preset", "tiny", *sets, "--set", setting]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), words in err) == ("", 1, True), err
    assert not Path("runs").exists()


@pytest.mark.parametrize("setting", ["train.steps=-1", "train.learning_rate=0", "distill.stages=0",
    "distill.teacher_steps=0", "distill.least_guidance=0", "distill.least_guidance=9", "distill.critic_rate=0",
    "distill.adversarial=-1"])  # fmt: skip
def test_so_are_those_of_distilling(models: Path, setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["distill", "--model", "tiny-rf", "--set", setting]) == 2
    err = capsys.readouterr().err
    assert (err.count("\n"), setting.split("=")[0] in err) == (1, True), err


def numbers(cls: type, where: str = "") -> typing.Iterator[tuple[str, bool]]:
    """(field, whether it has a range) of all fields of a configuration that are numbers."""
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        kind = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
        if dataclasses.is_dataclass(kind):
            yield from numbers(kind, f"{where}{name}.")  # type: ignore[arg-type]
        elif {int, float} & {kind, *typing.get_args(kind)}:
            yield where + name, any(isinstance(note, config.Range) for note in typing.get_args(hint))


FAMILIES = [VAEConfig, VQConfig, LDMConfig, RFConfig, GANConfig, ARConfig]


@pytest.mark.parametrize("cls", [TrainConfig, DistillConfig, DataConfig, *FAMILIES])
def test_every_number_has_a_range(cls: type) -> None:
    found = dict(numbers(cls))
    open_ones = {name for name, limited in found.items() if not limited}
    assert len(found) > 1
    assert open_ones <= {"sampling.guidance_scale", "pixels.width", "pixels.height"}


def test_a_model_file_with_such_values_cannot_be_used(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors, header = files.load_tensors(models / "tiny-rf.safetensors")
    document = header.document
    document["config"]["diffusion"]["shift"] = -1
    files.save_tensors(Path("bad.safetensors"), tensors, header.metadata | {"genctl": json.dumps(document)})
    assert execute(["sample", "--model", "bad.safetensors", "--class", "red", "-o", "a.png"]) == 4
    err = capsys.readouterr().err
    assert "bad.safetensors" in err
    assert "diffusion.shift is -1" in err


def test_clip_0_leaves_the_gradient_as_it_is() -> None:
    layers = [torch.nn.Linear(3, 3) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    for layer, clip in zip(layers, (0.0, 1e9), strict=True):
        layer(torch.ones(1, 3)).sum().backward()
        update(make_optimisers(layer, TrainConfig()), TrainConfig(clip=clip), 0.1)
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert float(layers[0].weight.detach().abs().sum()) > 0
