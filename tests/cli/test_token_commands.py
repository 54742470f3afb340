"""Integers and models over them by the commands that every family has."""

import json
from pathlib import Path

import pytest
import torch
from helpers import draw_shape, shape_folder
from PIL import Image, ImageChops
from safetensors.torch import load_file

import genctl
from genctl import files
from genctl.cli.main import execute
from genctl.errors import InputError, UsageError
from genctl.media.codes import read_codes

TINY = ["--preset", "tiny", "--threads", "1", "--quiet"]


def pixels(path: str) -> bytes:
    return Image.open(path).convert("RGB").tobytes()


def test_integers_pass_from_encode_to_decode(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_shape("circle", "red", "flat").resize((48, 40)).save("a.png")
    assert execute(["encode", "a.png", "--model", "tiny-vq", "-o", "a.safetensors"]) == 0
    codes, info = read_codes(Path("a.safetensors").read_bytes(), "a")
    assert (codes.dtype, codes.shape, info["axes"]) == (torch.int32, (1, 10, 12), "token, height, width")
    assert int(codes.min()) >= 0
    assert int(codes.max()) < 12
    assert execute(["decode", "a.safetensors", "-o", "b.png"]) == 0
    assert Image.open("b.png").size == (48, 40)
    model = genctl.load("tiny-vq")
    assert torch.equal(model.encode("a.png").values, codes)
    with pytest.raises(InputError, match="0 to 11"):
        model.decode(genctl.Codes(codes + 12, info))
    with pytest.raises(InputError, match="whole numbers"):
        model.decode(genctl.Codes(codes.float(), info))
    assert execute(["decode", "a.safetensors", "--model", "tiny-vae", "-o", "c.png"]) == 3
    assert execute(["interpolate", "a.png", "a.png", "--model", "tiny-vq", "-o", "w.gif"]) == 2
    capsys.readouterr()


def test_grids_take_one_size(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_shape("circle", "red", "flat").resize((48, 48)).save("a.png")
    assert execute(["encode", "a.png", "--model", "tiny-vq-grids", "-o", "a.safetensors"]) == 2
    assert "pictures of 32x32 only" in capsys.readouterr().err
    assert execute(["encode", "a.png", "--size", "32", "--model", "tiny-vq-grids", "-o", "a.safetensors"]) == 0
    codes, info = read_codes(Path("a.safetensors").read_bytes(), "a")
    assert (codes.shape, info["axes"]) == ((1 + 4 + 64,), "token")
    assert execute(["decode", "a.safetensors", "-o", "b.png"]) == 0


def test_drawn_by_flag_like_line_and_python(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--cfg", "2", "--rising", "--temperature", "0.8", "--top-k", "6", "--top-p", "0.9", "--passes", "5"]
    command = ["sample", "-m", "tiny-ar", "--prompt", "red", "--seed", "1", *options]
    assert execute([*command, "--json", "-o", "flag.png"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {key: said[key] for key in ("guidance_scale", "rising", "temperature", "top_k", "top_p", "passes")} == {
        "guidance_scale": 2, "rising": True, "temperature": 0.8, "top_k": 6, "top_p": 0.9, "passes": 5,
    }  # fmt: skip
    assert execute(["sample", "--like", "flag.png", "-o", "like.png"]) == 0
    line = {key: said[key] for key in ("guidance_scale", "rising", "temperature", "top_k", "top_p", "passes")}
    Path("lines.txt").write_text(json.dumps({"prompt": "red", "seed": 1} | line) + "\n")
    assert execute(["sample", "-m", "tiny-ar", "--prompts", "lines.txt", "-o", "line.png"]) == 0
    model = genctl.load("tiny-ar")
    assert model.options == ["cfg", "rising", "temperature", "top_k", "top_p", "passes"]
    model.draw("red", seed=1, cfg=2, rising=True, temperature=0.8, top_k=6, top_p=0.9, passes=5)[0].save("python.png")
    assert pixels("flag.png") == pixels("like.png") == pixels("line.png") == pixels("python.png")
    assert execute([*command[:-11], "-o", "other.png"]) == 0
    assert pixels("other.png") != pixels("flag.png")


def test_eight_at_once_are_eight_alone(models: Path) -> None:
    for name, what in (("tiny-ar", ["--prompt", "red"]), ("tiny-raster", ["--class", "red"]), ("tiny-scale", [])):
        assert execute(["sample", "-m", name, *what, "-n", "8", "--seed", "4", "-o", f"{name}/{{seed}}.png"]) == 0
        for seed in range(4, 12):
            assert execute(["sample", "-m", name, *what, "--seed", str(seed), "-o", "alone.png", "-f"]) == 0
            assert pixels("alone.png") == pixels(f"{name}/{seed}.png")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-m", "tiny-raster", "--passes", "3"], "its order (raster)"),
        (["-m", "tiny-scale", "--cfg", "3"], "no condition to guide by"),
        (["-m", "tiny-ar", "--rising"], "without a prompt"),
        (["-m", "tiny-ar", "--top-p", "0"], "from 0.001 to 1"),
        (["-m", "tiny-ar", "--steps", "4"], "--steps is for"),
        (["-m", "tiny-rf", "--top-k", "4"], "--top-k is for ar"),
        (["-m", "tiny-ar", "--size", "64"], "draws 32x32 only"),
        (["-m", "tiny-scale", "--image", "a.png"], "cannot start from one"),
        (["-m", "tiny-raster", "--image", "a.png", "--mask", "upper.png", "--seed", "1"], "row by row"),
    ],
)
def test_what_an_order_cannot_do_is_one_line(
    options: list[str], said: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_shape("circle", "red", "flat").save("a.png")
    upper = Image.new("L", (32, 32), 255)
    upper.paste(0, (0, 16, 32, 32))
    upper.save("upper.png")
    assert execute(["sample", *options, "-o", "x.png"]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert not Path("x.png").exists()


def test_a_model_finds_its_codec_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shape_folder(Path("data"))
    how = ["--set", "model.codec=runs/vq", "--set", "model.condition=none", "--set", "train.steps=1"]
    assert execute(["train", "--model", "vq", "data", "-o", "runs/vq", "--set", "train.steps=1", *TINY]) == 0
    assert execute(["train", "--model", "ar", "data", "-o", "runs/ar", *how, *TINY]) == 0
    Path("elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert execute(["sample", "-m", "../runs/ar", "--seed", "1", "-o", "x.png"]) == 0


def test_a_file_that_says_what_cannot_be_is_one_line(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors, header = files.load_tensors(models / "tiny-ar.safetensors")
    document = header.document
    document["config"] |= {"pixels": [16384, 16384], "factor": 1}  # 268 million tokens
    files.save_tensors(Path("bad.safetensors"), tensors, {"genctl": json.dumps(document)})
    assert execute(["sample", "-m", "bad.safetensors", "--seed", "1", "-o", "x.png"]) in (2, 4)
    error = capsys.readouterr().err.strip().splitlines()
    assert "fault" not in error[-1]


def test_a_part_of_a_picture_is_redrawn(models: Path) -> None:
    draw_shape("circle", "red", "flat").resize((32, 32)).save("a.png")
    mask = Image.new("L", (32, 32), 0)
    mask.paste(255, (0, 16, 32, 32))
    mask.save("lower.png")
    for name in ("tiny-ar", "tiny-raster"):
        assert (
            execute(
                ["sample", "-m", name, "--image", "a.png", "--mask", "lower.png", "--seed", "2", "-o", "b.png", "-f"]
            )
            == 0
        )
        difference = ImageChops.difference(Image.open("a.png").convert("RGB"), Image.open("b.png").convert("RGB"))
        box = difference.getbbox()
        assert box is not None
        assert box[1] >= 16
        assert execute(["sample", "-m", name, "--image", "a.png", "--strength", "0.5", "-o", "c.png", "-f"]) == 0


def test_walks_between_seeds_and_prompts(models: Path) -> None:
    assert execute(["interpolate", "-m", "tiny-ar", "--seeds", "1,2", "--frames", "3", "-o", "s.gif"]) == 0
    assert execute(
        ["interpolate", "-m", "tiny-ar", "--prompts", "red", "--prompts", "green", "--frames", "3", "-o", "p.gif"]
    ) in (0, 2)
    draw_shape("circle", "red", "flat").save("a.png")
    assert execute(["interpolate", "a.png", "a.png", "-m", "tiny-ar", "-o", "w.gif"]) == 2
    with pytest.raises(UsageError, match="no codes"):
        genctl.load("tiny-ar").encode("a.png")


def test_the_whole_way_from_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shape_folder(Path("data"))
    for kind, extra in (
        ("fsq", []),
        ("vq", ["--set", "model.quantiser.codes=32"]),
        ("grids", ["--set", "model.quantiser.codes=32", "--set", "model.quantiser.sides=[1,2,4,8]"]),
    ):
        how = ["--set", f"model.quantiser.kind={'fsq' if kind == 'fsq' else 'vq'}", *extra]
        command = ["train", "--model", "vq", "data", "-o", f"runs/{kind}", "--set", "train.steps=12", *how, *TINY]
        assert execute(command) == 0
        rows = [json.loads(line) for line in Path(f"runs/{kind}/metrics.jsonl").read_text().splitlines()]
        assert 0 < rows[-1]["held_out_used"] <= 1
        assert any("perplexity" in row for row in rows)
    for order, codec in (("masked", "fsq"), ("raster", "vq"), ("raster", "grids"), ("scale", "grids")):
        name = f"runs/{order}-{codec}"
        how = ["--set", f"model.order={order}", "--set", f"model.codec=runs/{codec}", "--set", "train.steps=6"]
        assert execute(["train", "--model", "ar", "data", "-o", name, *how, *TINY]) == 0
        assert execute(["sample", "-m", name, "--prompt", "red circle", "--seed", "1", "-o", "x.png", "-f"]) == 0
        capsys.readouterr()
        assert execute(["eval", name, "data", "--bpd", "--json", "--limit", "6"]) == 0
        said = json.loads(capsys.readouterr().out)["bpd"]
        assert 0 < said["bits_a_token"] < 8
        assert said["bits_a_pixel"] == pytest.approx(said["bits_a_token"] * said["tokens"] / 1024, abs=1e-4)
    assert execute(["eval", "runs/fsq", "data", "--json"]) == 0
    assert "psnr" in json.loads(capsys.readouterr().out)


def test_a_codec_of_integers_begins_from_a_continuous_one(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape_folder(Path("data"))
    net = ["channels=[8,8]", "encoder_blocks=[1,1]", "decoder_blocks=[1,1]"]
    how = [part for one in net for part in ("--set", f"model.net.{one}")]
    how += ["--set", "model.pixels=32", "--set", "train.steps=1", "--threads", "1", "--set", "train.batch=4"]
    assert execute(["train", "--model", "vq", "data", "-o", "runs/vq", "--init", "tiny-vae", *how]) == 0
    assert "from tiny-vae" in capsys.readouterr().err
    assert execute(["train", "--model", "vae", "data", "-o", "runs/vae", "--init", "tiny-vq", *how]) == 2
    assert "a model of family vq, not vae" in capsys.readouterr().err


def test_a_run_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A codebook that was begun by k-means and revived, and masks of a token model, as in one piece."""
    monkeypatch.chdir(tmp_path)
    shape_folder(Path("data"))
    vq = ["--set", "model.quantiser.kind=vq", "--set", "model.quantiser.codes=16"]
    ar = ["--set", "model.codec=runs/vq"]
    for model, how in (("vq", vq), ("ar", ar)):
        command = ["train", "--model", model, "data", *how, "--set", "train.decay=0", *TINY]
        assert execute([*command, "-o", f"runs/{model}", "--set", "train.steps=8"]) == 0
        assert execute([*command, "-o", f"runs/{model}-2", "--set", "train.steps=4"]) == 0
        assert execute([*command, "-o", f"runs/{model}-2", "--set", "train.steps=8"]) == 0
        whole, parts = (load_file(f"runs/{name}/model.safetensors") for name in (model, f"{model}-2"))
        for key in whole:
            assert torch.equal(whole[key], parts[key]), key
