"""A GAN by the commands that every family has: drawn, swept, mixed, walked, projected, trained."""

import functools
import json
from pathlib import Path

import pytest
import torch
from helpers import draw_shape, shape_folder
from PIL import Image, ImageChops
from safetensors.torch import load_file

import genctl
from genctl.cli.main import execute
from genctl.errors import UsageError
from genctl.families.adversarial import project, step
from genctl.media.codes import read_codes
from genctl.training.score import Score

SAMPLE = ["sample", "-m", "tiny-gan", "--class", "red", "--seed", "1"]


@pytest.fixture(autouse=True)
def _short_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genctl.families.gan.project", lambda *a: project.project(*a, steps=30))


def pixels(path: str) -> bytes:
    return Image.open(path).convert("RGB").tobytes()


def test_drawn_by_flag_like_line_and_python(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--truncation", "0.5", "--mix", "7", "--direction", "2", "--noise", "0"]
    assert execute([*SAMPLE, *options, "--json", "-o", "flag.png"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["truncation"], said["mix"], said["mix_from"], said["direction"], said["along"]) == (0.5, 7, 4, 2, 2.0)
    assert execute(["sample", "--like", "flag.png", "-o", "like.png"]) == 0
    line = {"class": "red", "truncation": 0.5, "mix": 7, "direction": 2, "noise": 0, "seed": 1}
    Path("lines.txt").write_text(json.dumps(line) + "\n")
    assert execute(["sample", "-m", "tiny-gan", "--prompts", "lines.txt", "-o", "line.png"]) == 0
    model = genctl.load("tiny-gan")
    assert set(model.options) == {"truncation", "noise", "mix", "mix_from", "direction", "along"}
    made = model.draw(class_name="red", seed=1, truncation=0.5, mix=7, direction=2, noise=0)[0]
    assert pixels("flag.png") == pixels("like.png") == pixels("line.png") == made.tobytes()
    assert execute([*SAMPLE, "-o", "plain.png"]) == 0
    assert pixels("plain.png") != pixels("flag.png")


def test_eight_at_once_are_eight_single_ones(models: Path) -> None:
    for name in ("tiny-gan", "tiny-latent-gan"):
        model = genctl.load(name)
        asked = {"class_name": "red"} if name == "tiny-gan" else {"prompt": "cat"}
        together = model.draw(n=8, seed=1, **asked)  # type: ignore[arg-type]
        alone = [model.draw(n=1, seed=1 + index, **asked)[0] for index in range(8)]  # type: ignore[arg-type]
        assert [one.tobytes() for one in together] == [one.tobytes() for one in alone]


def test_a_sheet_of_mixed_styles_is_a_sweep(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sample", "-m", "tiny-gan", "--class", "red", "--seeds", "1-3", "--mix", "4,5", "--grid"]
    assert execute([*command, "--json", "-o", "sheet.png"]) == 0
    sheet = json.loads(capsys.readouterr().out)["sheet"]
    assert {*sheet["row_labels"], *sheet["column_labels"]} >= {"mix 4", "mix 5"}
    assert execute(["sample", "--like", "sheet.png", "-o", "again.png"]) == 0
    assert pixels("sheet.png") == pixels("again.png")


def test_a_walk_that_closes_meets_its_first_frame_again(models: Path) -> None:
    """Three ends, nine frames: each end is one, and from the last frame it is as far to the first as between others."""
    command = ["interpolate", "-m", "tiny-gan", "--seeds", "1,2,3", "--frames", "9"]
    assert execute([*command, "--loop", "-o", "loop/"]) == 0
    assert execute(["interpolate", "-m", "tiny-gan", "--seeds", "1,2,3,1", "--frames", "10", "-o", "open/"]) == 0
    for index in range(9):
        assert pixels(f"loop/{index}.png") == pixels(f"open/{index}.png")
    assert pixels("open/9.png") == pixels("loop/0.png")
    assert execute([*command, "--loop", "-o", "walk.gif"]) == 0
    assert getattr(Image.open("walk.gif"), "n_frames", 1) > 1


def test_the_ends_of_a_walk_are_the_pictures_of_its_seeds_and_prompts(models: Path) -> None:
    """Noise of the layers included, which belongs to the seed as z does."""
    model = genctl.load("tiny-gan")
    for layer in model.family.net.synthesis.layers:
        layer.strength.data.fill_(0.3)
    walk = model.interpolate(seeds=[1, 2], frames=3, prompt="red")
    assert [walk[0].tobytes(), walk[2].tobytes()] == [
        one.tobytes() for one in model.draw(class_name="red", n=2, seed=1)
    ]
    walk = model.interpolate(prompts=["red", "green"], frames=3, seed=5)
    drawn = [model.draw(class_name=name, seed=5)[0] for name in ("red", "green")]
    assert [walk[0].tobytes(), walk[2].tobytes()] == [one.tobytes() for one in drawn]
    assert walk[0].document["seed"] == 5
    mixed = model.interpolate(seeds=[1, 2], frames=2, prompt="red", mix=3, direction=2)[0].document
    assert (mixed["mix_from"], mixed["along"]) == (4, 2.0)


def test_a_latent_gan_projects_after_it_has_drawn(models: Path) -> None:
    """Its codec may be loaded first by drawing, which takes no gradients."""
    draw_shape("square", "red", "plain").save("a.png")
    model = genctl.load("tiny-latent-gan")
    model.draw("cat", seed=1)
    after = model.encode("a.png").values
    assert torch.equal(after, genctl.load("tiny-latent-gan").encode("a.png").values)


def test_what_python_refuses(models: Path) -> None:
    model = genctl.load("tiny-gan")
    for asked, said in (
        ({"direction": 1, "space": "noise"}, "want ends"), ({"direction": 1, "along": 0.0}, "would stand still"),
        ({"seeds": [1, 2], "seed": -1}, "seed -1"), ({"direction": 1, "loop": True}, "want ends"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            model.interpolate(**asked)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="takes no text"):
        genctl.load("tiny-vae").interpolate(prompts=["a", "b"])


def test_a_walk_along_a_direction(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["interpolate", "-m", "tiny-gan", "--direction", "1", "--seed", "3", "--frames", "5"]
    assert execute([*command, "--json", "-o", "walk/"]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (document["direction"], document["along"], document["seed"]) == (1, [-3.0, 3.0], 3)
    model = genctl.load("tiny-gan")
    for index, along in enumerate((-3.0, -1.5, 0.0, 1.5, 3.0)):
        assert pixels(f"walk/{index}.png") == model.draw(seed=3, direction=1, along=along)[0].tobytes()
    assert execute([*command, "--along", "1", "--json", "-o", "near/"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["along"] == [-1.0, 1.0]
    middle = model.draw(seed=3)[0].tobytes()
    assert pixels("walk/2.png") == middle == pixels("near/2.png")


def test_what_a_walk_refuses(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_shape("square", "red", "plain").save("a.png")
    for more, said in (
        (["-m", "tiny-gan", "--direction", "1", "--loop"], "--loop has no effect without ends"),
        (["-m", "tiny-gan", "--truncation", "1"], "give pictures (a.png b.png)"),
        (["-m", "tiny-ldm", "--direction", "1"], "--direction is for gan; tiny-ldm takes"),
        (["-m", "tiny-gan", "a.png", "a.png", "--direction", "1"], "--direction has no effect between pictures"),
    ):
        assert execute(["interpolate", *more, "-o", "x.png"]) == 2, more
        assert said in capsys.readouterr().err, more
    assert not Path("x.png").exists()


@pytest.mark.parametrize("name", ["tiny-gan", "tiny-latent-gan"])
def test_a_picture_is_projected_and_drawn(models: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Encode finds styles, says how near they lead back, and decode draws them; also through a pipe's file."""
    draw_shape("square", "red", "plain", 64).save("a.png")
    assert execute(["encode", "a.png", "-m", name, "-o", "a.safetensors"]) == 0
    said = capsys.readouterr().err
    assert "dB after the round trip to its code and back, LPIPS" in said
    codes, info = read_codes(Path("a.safetensors").read_bytes(), "a")
    assert (info["axes"], list(codes.shape)) == ("layers, style", [8 if name == "tiny-gan" else 4, 12])
    assert execute(["decode", "a.safetensors", "-o", "b.png"]) == 0
    assert Image.open("b.png").size == (32, 32)
    model = genctl.load(name)
    assert model.decode(model.encode("a.png")).tobytes() == pixels("b.png")


def test_a_walk_between_projected_pictures(models: Path) -> None:
    for colour in ("red", "blue"):
        draw_shape("square", colour, "plain").save(f"{colour}.png")
    assert execute(["interpolate", "-m", "tiny-gan", "red.png", "blue.png", "--frames", "3", "-o", "w/"]) == 0
    model = genctl.load("tiny-gan")
    a, b = (model.encode(f"{colour}.png") for colour in ("red", "blue"))
    assert pixels("w/0.png") == model.decode(a).tobytes()
    middle = type(a)(torch.lerp(a.values, b.values, 0.5), a.info)  # styles lie on the straight line, not on an arc
    assert ImageChops.difference(Image.open("w/1.png").convert("RGB"), model.decode(middle)).getbbox() is None


def test_codes_of_another_shape_are_refused(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_shape("square", "red", "plain").save("a.png")
    assert execute(["encode", "a.png", "-m", "tiny-vae", "-o", "v.safetensors"]) == 0
    assert execute(["decode", "v.safetensors", "-m", "tiny-gan", "-o", "x.png"]) == 3
    assert "codes of shape [2, 8, 8], where the model wants [8, 12]" in capsys.readouterr().err
    assert execute(["encode", "a.png", "-m", "tiny-gan", "-o", "g.safetensors"]) == 0
    assert execute(["decode", "g.safetensors", "-m", "tiny-vae", "-o", "x.png"]) == 3
    assert "codes of shape [8, 12], where the model wants [2, any, any]" in capsys.readouterr().err


def test_trained_by_the_same_command(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes by text, and DC-GAN; with figures of what is drawn, and a verdict."""
    monkeypatch.setattr("genctl.training.train.Score", functools.partial(Score, count=6))
    data = shape_folder(Path("data"), 2)
    small = ["--set", "train.batch=8", "--set", "train.learning_rate=0.001", "--set", "model.generator.most=8",
             "--set", "model.generator.width=4", "--set", "model.critic.width=4", "--set", "model.critic.most=8",
             "--set", "train.early=0", "--init", "none"]  # fmt: skip
    kinds = {
        "codes": ["--set", "model.codec=tiny-vae", "--set", "model.pixels=32"],
        "dc": ["--set", "model.codec=", "--set", "model.pixels=16", "--set", "model.condition=none",
               "--set", "model.generator.kind=dcgan", "--set", "model.critic.kind=dcgan"],
    }  # fmt: skip
    for name, settings in kinds.items():
        run = f"runs/{name}"
        assert execute(["train", str(data), "-m", "gan", "-o", run, "--steps", "3", *settings, *small]) == 0
        said = capsys.readouterr().err
        assert "held out sign" in said
        assert ", frechet" in said
        assert "3 steps, too few to judge by" in said or "so few are seldom enough" in said
        rows = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
        held = next(row for row in rows if "held_out_frechet" in row)
        assert {"held_out_diversity", "held_out_sign", "held_out_sign_trained"} <= set(held)
        asked = ["-p", "red circle"] if name == "codes" else []
        assert execute(["sample", "-m", run, *asked, "--seed", "1", "-o", f"{name}.png"]) == 0
    capsys.readouterr()
    for settings, said in (
        (["--set", "model.codec=tiny-vae", "--set", "model.generator.kind=dcgan"], "dcgan draws pictures, not codes"),
        (["--set", "model.codec=", "--set", "model.pixels=48"], "4 times a power of two"),
    ):
        assert execute(["train", str(data), "-m", "gan", "-o", "runs/x", "--steps", "1", *settings, *small]) == 2
        assert said in capsys.readouterr().err


def test_a_run_with_adaptive_augmentation_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generator, critic, the share that adapts and both optimisers, as in one piece."""
    monkeypatch.chdir(tmp_path)
    shape_folder(Path("data"))
    monkeypatch.setattr(Score, "__call__", lambda self, model: {"frechet": 1.0, "diversity": 1.0})
    monkeypatch.setattr(step, "change_of_share", lambda sign, rows, target: 0.05 + 0.01 * sign)  # in eight steps to .4
    fixed = ["model.condition=none", "model.loss.adapt=0.6", "model.loss.burn_in=0", "train.decay=0", "train.batch=8"]
    command = ["train", "data", "-m", "gan", "--preset", "tiny", "--threads", "1", "-q"]
    command += [part for one in fixed for part in ("--set", one)]
    assert execute([*command, "-o", "whole", "--steps", "8"]) == 0
    for steps in ("3", "8"):
        assert execute([*command, "-o", "parts", "--steps", steps]) == 0
    whole, parts = (load_file(f"{name}/state-00000008.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    shares = {key: float(value) for key, value in whole.items() if key.endswith("share")}
    assert max(shares.values()) > 0.3
