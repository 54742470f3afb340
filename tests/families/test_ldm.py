"""Latent diffusion: batches of cached codes and captions, training that learns text, sampling that repeats."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import COLOURS, flow_request, shape_folder

from genctl.data.pictures import DataConfig, load
from genctl.errors import ModelError, UsageError
from genctl.families.base import Blend, Family
from genctl.families.conditions import words
from genctl.families.conditions.captions import Captions
from genctl.families.ldm import LDM, LDMConfig
from genctl.families.saved import load as load_model
from genctl.families.sources import CodeSource
from genctl.rng import Draw


@pytest.fixture
def model(models: Path) -> LDM:
    made = load_model("tiny-ldm")
    assert isinstance(made, LDM)
    return made


def drawn(model: Family, **request: object) -> torch.Tensor:
    parts = [part for part in model.sample(flow_request(**request)) if part.final]  # type: ignore[arg-type]
    return torch.cat([part.pictures for part in parts])


def test_a_batch_holds_the_pictures_own_codes_and_captions(model: LDM, tmp_path: Path) -> None:
    pictures = load(shape_folder(tmp_path / "data", 1), 32, DataConfig())
    source = model.source(pictures, torch.device("cpu"))
    assert isinstance(source, CodeSource)
    rows = torch.tensor([3, 0, 7])
    batch = source.batch(rows, Draw(0, 3))
    real = pictures.pixels[rows].float() / 127.5 - 1
    assert torch.allclose(batch["x"], model.codec().encode(real), atol=2e-3)  # kept as float16
    captions = source.described.kind
    assert isinstance(captions, Captions)
    caption = captions.choices[rows, 0]
    assert caption.shape == (3,)
    from genctl.data.captions import variants

    known = {text for entry in pictures.entries for text, _ in variants(entry)}
    texts = sorted(known)
    for row in range(3):  # whatever form was drawn, its states are those of encoding it alone
        form = int((Draw(0, 3).uniform(1) >= captions.upto[rows]).sum(1)[row])
        text = texts[int(captions.choices[rows[row], form])]
        states, pooled, _ = model.encode_text(text)
        count = int(batch["present"][row].sum())
        assert count == len(states)
        assert torch.allclose(batch["states"][row, :count], states, atol=5e-3)
        assert torch.allclose(batch["pooled"][row], pooled, atol=1e-3)
        assert not batch["states"][row, count:].any()


def test_a_batch_holds_codes_of_mirrored_and_shifted_pictures(model: LDM, tmp_path: Path) -> None:
    folder = shape_folder(tmp_path / "data", 1)
    pictures = load(folder, 32, DataConfig(flip=True, views=3))
    fixed = pictures.entries[0]
    pictures.entries[0] = replace(fixed, flips=False)
    source = model.source(pictures, torch.device("cpu"))
    assert isinstance(source, CodeSource)
    real = pictures.pixels.float() / 127.5 - 1
    plain, mirrored = model.codec().encode(real), model.codec().encode(real.flip(3))
    rows = torch.arange(len(pictures))
    seen = torch.zeros(len(rows), 2, dtype=torch.bool)
    for step in range(20):
        x = source.batch(rows, Draw(step, len(rows)))["x"]
        far = torch.stack([(x - wanted).abs().amax((1, 2, 3)) for wanted in (plain, mirrored)], 1)
        assert (far.min(1).values < 5e-3).all()
        seen |= far < 5e-3
    assert seen[:, 0].all()  # the first view is the picture as it is
    assert not seen[0, 1]
    assert 0.4 < seen[1:, 1].float().mean() < 1  # two further views, each mirrored or not: three quarters


def test_what_is_held_out_is_looked_at_as_it_is(model: LDM, tmp_path: Path) -> None:
    config = DataConfig(flip=True, jitter=3, held_out=0.3)
    pictures = load(shape_folder(tmp_path / "data", 5), 32, config)
    held = pictures.split(True)
    assert len(held)
    assert not held.config.varies
    assert pictures.split(False).config == config
    source = model.source(held, torch.device("cpu"))
    assert isinstance(source, CodeSource)
    assert source.views == 1


def test_what_the_configuration_leaves_open_is_the_codecs(models: Path) -> None:
    settled = LDM.settled(LDMConfig(32, codec="tiny-vae"))
    assert (settled.channels, settled.factor) == (2, 4)
    assert LDM.settled(LDMConfig(32, codec="tiny-vae", channels=3)).channels == 3  # said is said, and refused later
    with pytest.raises(UsageError, match="those of the codec"):
        LDM(LDMConfig(32, codec="tiny-vae"))
    with pytest.raises(ModelError, match="a ldm model cannot be the codec"):
        LDM.settled(LDMConfig(32, codec="tiny-ldm"))


def test_an_undescribed_set_trains_without_text(model: LDM, tmp_path: Path) -> None:
    from helpers import draw_shape

    (tmp_path / "plain").mkdir()
    for index in range(3):
        draw_shape("circle", "red", "plain").save(tmp_path / "plain" / f"{index}.png")
    source = model.source(load(tmp_path / "plain", 32, DataConfig()), torch.device("cpu"))
    batch = source.batch(torch.arange(3), Draw(0, 3))
    assert not batch["present"].any()
    ((phase, loss, _),) = model.training_step(batch, Draw(0, 3), 0.0)
    assert phase == "model"
    assert torch.isfinite(loss)


def test_sampling_is_the_slow_loop(model: LDM) -> None:
    """The whole sampler against a plain Euler loop with classifier-free guidance over the plain network."""
    steps, scale = 4, 3.0
    got = drawn(model, seeds=[5], prompts=["red circle"], steps=steps, guidance_scale=scale, dtype=torch.float32)
    x = torch.randn(model.shape, generator=torch.Generator().manual_seed(5))[None]
    cond, uncond = model.conditions(["red circle"]), model.conditions([""])
    with torch.no_grad():
        for index in range(steps):
            t = 1 - index / steps
            v = model.net(x, torch.tensor([t]), *cond)
            if 0.1 <= t <= 0.95:
                v0 = model.net(x, torch.tensor([t]), *uncond)
                v = v0 + scale * (v - v0)
            x = x - v / steps
    assert torch.allclose(got, model.decode(x), atol=2e-3)


@pytest.mark.parametrize("solver", ["euler", "dpmpp_2m", "ancestral", "predictor_corrector"])
def test_pictures_do_not_depend_on_their_batch(model: LDM, solver: str) -> None:
    request = {"prompts": ["a", "b c d", "a"], "steps": 3, "guidance_scale": 3.0, "solver": solver}
    together = drawn(model, seeds=[1, 2, 3], **request)
    for index in range(3):
        alone = drawn(model, seeds=[index + 1], **(request | {"prompts": [request["prompts"][index]]}))  # type: ignore[index]
        assert torch.equal(together[index : index + 1], alone)
    assert torch.equal(together, drawn(model, seeds=[1, 2, 3], chunk=2, **request))


def test_conditions_of_prompts(model: LDM) -> None:
    _, present, pooled = model.conditions(["red circle", "", "a"])
    assert present.sum(1).tolist() == [4, 0, 3]  # [CLS] red circle [SEP]
    assert torch.equal(pooled[1], model.net.empty_pooled)


def test_the_ends_of_a_walk_are_the_prompts_own_pictures(model: LDM) -> None:
    long, short = "a big red circle", "a"
    for share, prompt in ((0.0, short), (1.0, long)):
        walked = drawn(model, seeds=[4], prompts=[Blend(short, long, share)], steps=2, dtype=torch.float32)
        assert torch.allclose(
            walked, drawn(model, seeds=[4], prompts=[prompt], steps=2, dtype=torch.float32), atol=1e-4
        )


def test_a_negative_prompt_steers_without_a_prompt_and_in_any_batch(model: LDM) -> None:
    request = {"steps": 2, "guidance_scale": 3.0, "negative": "dog"}
    alone = drawn(model, seeds=[1], prompts=[""], **request)
    assert not torch.equal(alone, drawn(model, seeds=[1], prompts=[""], steps=2, guidance_scale=3.0))
    assert torch.equal(alone, drawn(model, seeds=[1, 2], prompts=["", "cat"], **request)[:1])


def test_a_model_that_predicts_noise_can_sample(model: LDM) -> None:
    import dataclasses

    config = dataclasses.replace(model.config, diffusion=dataclasses.replace(model.config.diffusion, target="noise"))
    other = LDM(config)
    other.parts = model.parts
    assert torch.isfinite(drawn(other, seeds=[1], prompts=["a"], steps=3)).all()


def test_cut_prompts_are_remarked(model: LDM) -> None:
    assert "prompt cut" in model.remarks(flow_request([1], ["x " * 100]))[0]
    assert not model.remarks(flow_request([1], ["cat"]))


def test_another_codec_is_refused(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from genctl import files

    other = tmp_path / "models"
    other.mkdir()
    tensors, header = files.load_tensors(models / "tiny-vae.safetensors")
    changed = {key: value + 1e-3 if value.is_floating_point() else value for key, value in tensors.items()}
    files.save_tensors(other / "tiny-vae.safetensors", changed, header.metadata)
    with pytest.raises(ModelError, match="damaged"):
        load_model(str(other / "tiny-vae.safetensors"))
    honest = header.metadata | {"modelspec.hash_sha256": "0x" + files.tensors_sha256(changed)}
    files.save_tensors(other / "tiny-vae.safetensors", changed, honest)
    (other / "tiny-ldm.safetensors").write_bytes((models / "tiny-ldm.safetensors").read_bytes())
    monkeypatch.setenv("GENCTL_MODELS", str(other))
    with pytest.raises(ModelError, match="trained with another codec"):
        drawn(load_model("tiny-ldm"), seeds=[0], steps=1)


def test_a_flow_finds_its_codec_by_the_name_that_it_has_now(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped codec was trained on: its old tensors are kept as tiny-vae-1, and flows on them take those."""
    from genctl import files, hub

    tensors, header = files.load_tensors(models / "tiny-vae.safetensors")
    changed = {key: value + 1e-3 if value.is_floating_point() else value for key, value in tensors.items()}
    honest = header.metadata | {"modelspec.hash_sha256": "0x" + files.tensors_sha256(changed)}
    files.save_tensors(tmp_path / "tiny-vae.safetensors", changed, honest)
    for name, kept in (("tiny-vae-1", "tiny-vae"), ("tiny-ldm", "tiny-ldm")):
        (tmp_path / f"{name}.safetensors").write_bytes((models / f"{kept}.safetensors").read_bytes())
    index = dict(hub.index())
    for path in tmp_path.glob("*.safetensors"):
        tensors_hash = hub.weights_sha256(path, files.read_header(path))
        index[path.stem] = {"file": str(path), "sha256": files.file_sha256(path), "tensors": tensors_hash}
    monkeypatch.setattr(hub, "index", lambda: index)
    expected = drawn(load_model(str(models / "tiny-ldm.safetensors")), seeds=[0], steps=1)
    found = load_model("tiny-ldm")
    assert torch.equal(drawn(found, seeds=[0], steps=1), expected)
    assert hub.read_document(hub.resolve("tiny-ldm"))[0]["config"]["codec"] == "tiny-vae-1"
    assert hub.now_called("tiny-vae", "unknown") == "tiny-vae"  # nobody has those: as it was named


def test_unknown_words_are_said_with_known_ones_near(model: LDM, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [
        "apple",
        "boat",
        "cat",
        "couch",
        "crocodile",
        "ship",
        "house",
        "magic",
        "octopus",
        "red",
        "sailboat",
        "smile",
    ]
    monkeypatch.setattr(model, "info", model.info | {"words": known})
    (line,) = model.remarks(flow_request([1], ["a red kitten with two apples", "the spaceship"]))
    assert "'kitten' (near it: cat, " in line
    assert "'spaceship' (near it: ship, " in line
    assert not {"red", "apples", "two", "the", "with"} & set(re.findall(r"'(\w+)'", line))
    assert not model.remarks(flow_request([1], ["", "two red cats, smile!"]))
    monkeypatch.setattr(model, "info", {})  # a file that says nothing of its words
    assert not model.remarks(flow_request([1], ["kitten"]))


def test_the_words_of_captions() -> None:
    assert words.vocabulary(["A Red cat, 3d style", "red wine; Noël 12"]) == ["cat", "noël", "red", "style", "wine"]
    assert words.unknown("Boxes of wine on a red-brick table", ["box", "wine", "red"]) == ["brick", "table"]


@pytest.mark.slow
def test_train_then_sample_draws_the_colour_asked_for(models: Path, tmp_path: Path) -> None:
    """Both stages by the command line on coloured shapes, then: is the drawn shape of the colour that was asked for?"""
    data = shape_folder(tmp_path / "data")

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "genctl", *arguments], check=True, capture_output=True)

    run("train", "--model", "vae", str(data), "-o", "runs/codec", "--preset", "tiny", "--steps", "400")
    sets = ["model.codec=runs/codec", "model.channels=4", "model.factor=4"]
    run("train", "--model", "ldm", str(data), "-o", "runs/mine", "--preset", "tiny", "--steps", "400",
        *(part for text in sets for part in ("--set", text)))  # fmt: skip
    model = load_model("runs/mine")
    right = 0
    wanted = {"red": (1, -1, -1), "green": (-1, 0, -1), "blue": (-1, -1, 1), "orange": (1, 0.3, -1)}
    for colour in COLOURS:
        pictures = drawn(model, seeds=[1, 2, 3, 4], prompts=[f"{colour} circle, plain style"] * 4)
        for picture in pictures:
            centre = picture[:, 12:20, 12:20].mean((1, 2))
            nearest = min(wanted, key=lambda name: sum((float(centre[i]) - wanted[name][i]) ** 2 for i in range(3)))
            right += nearest == colour
    assert right >= 13, right
