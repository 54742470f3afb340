"""Clips by the commands that every family has."""

import io
import json
from pathlib import Path

import pytest
import torch
from helpers import clip_folder, draw_shape, moving
from PIL import Image
from safetensors.torch import load_file

import genctl
from genctl.cli.main import execute
from genctl.errors import InputError, UsageError
from genctl.media import pictures
from genctl.media.clips import encode_film, frames_of, read_clip
from genctl.media.codes import pack_codes, read_codes
from genctl.media.stream import split_pngs

TINY = ["--preset", "tiny", "--threads", "1", "--quiet"]
DRAW = ["sample", "-m", "tiny-video", "--prompt", "cat", "--seed", "1", "--steps", "2", "-q"]


def frames(path: str) -> list[bytes]:
    return [image.tobytes() for image, _ in frames_of(Path(path).read_bytes(), path)]


@pytest.mark.parametrize("ending", ["webp", "gif", "png", "mp4", "webm"])
def test_a_clip_in_every_format(models: Path, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*DRAW, "--frames", "4", "--fps", "5", "-o", f"a.{ending}"]) == 0
    made = list(frames_of(Path(f"a.{ending}").read_bytes(), f"a.{ending}"))
    assert len(made) == 4
    assert made[0][0].size == (32, 32)
    assert made[0][1] == pytest.approx(0.2, abs=0.01)
    said = genctl.info(f"a.{ending}")
    assert (said["prompt"], said["frames"], said["fps"], said["seed"]) == ("cat", 4, 5.0, 1)
    capsys.readouterr()


def test_names_grids_and_streams(
    models: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert execute(DRAW) == 0
    assert Path("cat-1.webp").exists()
    assert execute([*DRAW, "-n", "2", "-o", "out/"]) == 0
    assert frames("out/cat-1.webp") == frames("cat-1.webp")  # whatever is drawn beside it
    assert len(frames("out/cat-2.webp")) == 5
    assert execute([*DRAW, "-n", "2", "--grid", "-o", "sheet.png"]) == 0
    assert Image.open("sheet.png").width > 5 * 32
    capfdbinary.readouterr()
    assert execute([*DRAW, "-o", "-"]) == 0
    assert len(list(split_pngs(io.BytesIO(capfdbinary.readouterr().out)))) == 5
    assert execute([*DRAW, "-o", "-.mp4"]) == 0
    film = capfdbinary.readouterr().out
    assert len(read_clip(film, "a.mp4", 8)) == 5
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"cat\ndog\n")))
    lines = ["sample", "-m", "tiny-video", "--prompts", "-", "--steps", "1", "-q", "-o", "-.mp4"]
    assert execute(lines) == 2  # of the second line
    assert capfdbinary.readouterr().out.count(b"moov") == 1
    for wrong in (
        ["-n", "2", "-o", "-.mp4"],
        ["--frames", "1024", "--size", "256"],
        ["-o", "a.jpg"],
        ["-o", "-.xyz"],
        ["--frames", "0"],
        ["--mask", "m.png"],
    ):
        assert execute([*DRAW, *wrong]) == 2, wrong
    assert execute(["sample", "-m", "tiny-ldm", "--prompt", "cat", "-o", "a.mp4"]) == 2
    assert b"for clips, and this is a picture; use .png" in capfdbinary.readouterr().err
    assert execute(["sample", "-m", "tiny-ldm", "--prompt", "cat", "--frames", "3"]) == 2
    assert execute(["sample", "-m", "tiny-ldm,tiny-video", "--prompt", "cat", "-o", "b/"]) == 2
    assert not Path("b").exists()


def test_the_same_clip_again(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*DRAW, "--frames", "3", "--cfg", "2", "-o", "a.webp"]) == 0
    assert execute(["sample", "--like", "a.webp", "-q", "-o", "b.webp"]) == 0
    assert frames("a.webp") == frames("b.webp")
    assert execute(["sample", "--like", "a.webp", "--frames", "5", "-q", "-o", "c.webp"]) == 0
    assert len(frames("c.webp")) == 5
    clip = genctl.load("tiny-video").draw("cat", seed=1, steps=2, cfg=2, frames=3)[0]
    assert (len(clip), clip.fps, clip.document["frames"]) == (3, 8.0, 3)
    clip.save("d.webp")
    assert frames("d.webp") == frames("a.webp")
    capsys.readouterr()


def test_a_loop_by_command_and_again(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*DRAW, "--loop", "--json", "-o", "a.webp"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["loop"], said["frames"]) == (True, 7)  # 5 as trained, and 2 that lead back
    assert len(frames("a.webp")) == 7
    assert execute(["sample", "--like", "a.webp", "-q", "-o", "b.webp"]) == 0
    assert frames("a.webp") == frames("b.webp")
    assert execute([*DRAW, "--loop", "--frames", "3", "-o", "c.webp"]) == 2
    assert "--loop --frames 3: 4 or more" in capsys.readouterr().err
    assert not Path("c.webp").exists()


def test_a_clip_goes_on(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_shape("circle", "red", "plain").resize((48, 40)).save("a.png")
    assert execute([*DRAW, "--image", "a.png", "-o", "from-a-picture.webp"]) == 0
    assert execute([*DRAW, "--image", "from-a-picture.webp", "--frames", "9", "-o", "on.webp"]) == 0
    assert len(frames("on.webp")) == 9
    assert "several frames" not in capsys.readouterr().err  # all are looked at
    assert "image" in genctl.info("on.webp")
    scales = {"on": 1.0, "from-a-picture": 1.0, "guided": 3.0, "steered": 4.0}  # unguided where nothing is said of it
    assert execute([*DRAW, "--image", "a.png", "--cfg", "3", "-o", "guided.webp"]) == 0
    assert execute([*DRAW, "--image", "a.png", "--negative", "dog", "-o", "steered.webp"]) == 0
    assert {name: genctl.info(f"{name}.webp")["guidance_scale"] for name in scales} == scales
    again = ["sample", "--like", "on.webp", "--image", "from-a-picture.webp", "-o", "again.webp"]
    assert execute(again) == 0, capsys.readouterr().err
    assert frames("again.webp") == frames("on.webp")
    assert "differ" not in capsys.readouterr().err
    assert execute([*DRAW, "--image", "a.png", "--frames", "1", "-o", "none.webp"]) == 2
    first, *rest = moving("circle", "red", 4)
    first.save("a.gif", save_all=True, append_images=rest, duration=60, loop=0)  # 16 frames a second
    assert execute([*DRAW[:-1], "--image", "a.gif", "-o", "two.webp"]) == 0  # two at the model's 8
    assert "--image has 2 frames at 8 a second, 3 are gone on with" in capsys.readouterr().err
    assert execute([*DRAW[:-1], "--image", "a.gif", "--fps", "16", "-o", "four.webp"]) == 0
    assert "are gone on with" not in capsys.readouterr().err
    assert execute([*DRAW, "--image", "a.png", "--strength", "0.5", "-o", "none.webp"]) == 2
    assert not Path("none.webp").exists()


def test_codes_of_clips_and_back(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *rest = moving("circle", "red", 6)
    first.save("a.gif", save_all=True, append_images=rest, duration=120, loop=0)
    assert execute(["encode", "a.gif", "-m", "tiny-clipvae", "-o", "a.safetensors"]) == 0
    assert load_file("a.safetensors")["codes"].shape == (2, 4, 8, 8)
    assert execute(["decode", "a.safetensors", "-o", "b.webp"]) == 0
    assert len(frames("b.webp")) == 6
    codes, info = read_codes(Path("a.safetensors").read_bytes(), "a")
    for key, value in (("fps", "x"), ("fps", -1), ("fps", 1e-320), ("frames", 2.5), ("frames", -9), ("frames", "x")):
        Path("bad.safetensors").write_bytes(pack_codes(codes, info | {key: value}))
        assert execute(["decode", "bad.safetensors", "-m", "tiny-clipvae", "-o", "bad.webp"]) == 3, (key, value)
    assert execute(["decode", "a.safetensors"]) == 0
    assert len(frames("a.webp")) == 6
    assert execute(["encode", "a.gif", "-m", "tiny-video", "-o", "c.safetensors"]) == 0
    assert torch.equal(load_file("c.safetensors")["codes"], load_file("a.safetensors")["codes"])
    walk = ["interpolate", "a.gif", "b.webp", "-m", "tiny-clipvae", "--frames", "7"]
    assert execute([*walk, "-o", "w.webp"]) == 0
    clip = genctl.load("tiny-clipvae").between_clips("a.gif", "b.webp", frames=7)
    ends = [genctl.load("tiny-clipvae").encode_clip(name).values for name in ("a.gif", "b.webp")]
    back = genctl.load("tiny-clipvae").decode(genctl.Codes(ends[0], {"frames": 6}))
    assert clip[0].tobytes() == back[0].tobytes()  # it begins as the first does
    assert (len(clip), clip.document["task"]) == (7, "interpolate")
    for wrong in (["--space", "noise"], ["--seed", "2"], ["-o", "w.jpg"]):
        assert execute([*walk, *wrong]) == 2
    assert execute([*walk[:2], "-m", "tiny-clipvae"]) == 2
    assert execute(["interpolate", "a.gif", "b.webp", "-m", "tiny-video"]) == 2
    first.resize((30, 30)).save("a.png")
    assert execute(["encode", "a.png", "-m", "tiny-clipvae", "-o", "p.safetensors"]) == 0
    assert load_file("p.safetensors")["codes"].shape == (2, 1, 8, 8)
    assert execute(["decode", "p.safetensors", "-o", "p.png"]) == 0
    assert Image.open("p.png").size == (30, 30)
    capsys.readouterr()


def test_films_of_a_folder(models: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Path("films/b").mkdir(parents=True)
    for name in ("films/a.mp4", "films/b/c.mov"):
        Path(name).write_bytes(encode_film(moving("circle", "red", 6), "mp4", 8))
    draw_shape("circle", "red", "plain").save("films/d.png")
    assert execute(["encode", "films", "-m", "tiny-clipvae", "-o", "codes/"]) == 0
    found = {path.stem: load_file(path)["codes"].shape[1] for path in Path("codes").rglob("*.safetensors")}
    assert found == {"a": 4, "c": 4, "d": 1}
    capfdbinary.readouterr()
    assert execute(["encode", "films", "-m", "tiny-vae", "-o", "pictures/"]) == 0  # of pictures alone
    assert b"1 .mp4 not read" in capfdbinary.readouterr().err
    assert [path.name for path in Path("pictures").iterdir()] == ["d.safetensors"]
    assert execute(["encode", "films/a.mp4", "-m", "tiny-vae", "-o", "x.safetensors"]) == 3
    assert b"films/a.mp4: a film; give" in capfdbinary.readouterr().err
    Path("films/a.mp4").rename("download")
    assert execute([*DRAW, "--image", "download", "--frames", "9", "-o", "on.webp"]) == 0  # by its bytes
    assert genctl.info("download")["film"] == "32x32"
    capfdbinary.readouterr()
    assert execute(["decode", "codes/a.safetensors", "-o", "-.mp4"]) == 0
    assert len(read_clip(capfdbinary.readouterr().out, "a.mp4", 8)) == 6
    two = Path("codes/a.safetensors").read_bytes() + Path("codes/b/c.safetensors").read_bytes()
    Path("two.safetensors").write_bytes(two)
    for name in ("two", "codes/d", "pictures/d"):
        assert execute(["decode", f"{name}.safetensors", "-o", "-.mp4"]) == 2, name
        assert capfdbinary.readouterr().out == b""


def test_what_no_memory_holds_is_refused(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *rest = moving("circle", "red", 6)
    first.save("a.gif", save_all=True, append_images=rest, duration=120, loop=0)
    assert execute(["encode", "a.gif", "-m", "tiny-clipvae", "-o", "a.safetensors", "-q"]) == 0
    monkeypatch.setattr(pictures, "MOST_TOGETHER", 5000)  # 5 frames of 32 x 32 are more
    for command in (
        ["encode", "a.gif", "-m", "tiny-clipvae", "-o", "b.safetensors"],
        ["decode", "a.safetensors", "-o", "b.webp"],
        ["interpolate", "a.gif", "a.gif", "-m", "tiny-clipvae", "-o", "b.webp"],
    ):
        assert execute(command) == 3, command
        assert "megapixels, and at most" in capsys.readouterr().err
    assert not Path("b.webp").exists()
    assert not Path("b.safetensors").exists()
    assert execute(["encode", "a.gif", "-m", "tiny-clipvae", "--size", "16", "-o", "b.safetensors"]) == 0
    walk = ["interpolate", "a.gif", "a.gif", "a.gif", "-m", "tiny-clipvae", "--frames", "2"]
    assert execute(walk) == 2
    capsys.readouterr()


def test_clips_in_python_say_what_they_are_not(models: Path) -> None:
    clip = genctl.load("tiny-video").draw("cat", seed=1, steps=1, frames=3)[0]
    assert (type(clip[:2]), clip[1:].fps, len(clip[1:])) == (type(clip), 8.0, 2)
    for milliseconds in (0, -5, "x"):
        with pytest.raises(UsageError, match="milliseconds"):
            clip.save("a.webp", milliseconds=milliseconds)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no frames"):
        genctl.load("tiny-clipvae").encode_clip([])
    with pytest.raises(UsageError, match="no frames"):
        genctl.load("tiny-clipvae").between_clips([], [])
    with pytest.raises(InputError, match="a side of more than 16384 pixels"):
        genctl.load("tiny-clipvae").encode_clip([Image.new("RGB", (20_000, 8))])
    with pytest.raises(UsageError, match="encodes pictures"):
        genctl.load("tiny-vae").encode_clip([*clip])


def test_trained_and_resumed_exactly(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip_folder(Path("set"), stills=4)
    sets = ["--set", "train.save_minutes=100", "--set", "train.batch=4"]
    codec = ["train", "--model", "clipvae", "set", *TINY, *sets]
    assert execute([*codec, "-o", "codec", "--steps", "4"]) == 0
    assert execute([*codec, "-o", "half", "--steps", "2"]) == 0
    assert execute([*codec, "-o", "half", "--steps", "4"]) == 0
    whole, resumed = load_file("codec/model.safetensors"), load_file("half/model.safetensors")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    flow = ["train", "--model", "video", "set", *TINY, *sets, "--set", "model.codec=codec", "--init", "none"]
    assert execute([*flow, "-o", "flow", "--steps", "4"]) == 0
    assert execute([*flow, "-o", "half-flow", "--steps", "2"]) == 0
    assert execute([*flow, "-o", "half-flow", "--steps", "4"]) == 0
    whole, resumed = load_file("flow/model.safetensors"), load_file("half-flow/model.safetensors")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert execute(["sample", "-m", "flow", "--trust", "--prompt", "red circle", "--steps", "2", "-o", "a.webp"]) == 0
    assert (
        len(read_clip(Path("a.webp").read_bytes(), "a.webp", 8)) == 5
    )  # equal neighbours are kept as one, shown longer
    assert sorted(path.suffix for path in Path("flow/samples").iterdir())
    facts = genctl.info("flow")
    assert facts["config"]["frames"] == 5
    assert json.dumps(facts["prompts"])
    capsys.readouterr()
    assert execute(["train", "--model", "video", "set", *TINY, "--set", "model.codec=tiny-vae", "-o", "x"]) == 4
    assert "cannot be the codec of another (clipvae)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "method", ["progressive", "meanflow", "consistency", "dmd", "reflow", "adversarial", "frechet"]
)
def test_distilled_without_a_line(models: Path, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A student of clips by what makes students of pictures."""
    Path("p.txt").write_text("a cat\na dog\n")
    command = ["distill", "--model", "tiny-video", "--method", method, "--updates", "2", "-q"]
    command += ["--set", "train.batch=4", "--set", "distill.stages=2", "--set", "distill.teacher_steps=2"]
    own = ["--prompts", "p.txt"] + ["--pairs", "9"] * (method != "dmd")
    assert execute([*command, *own, "-o", "fast"]) == 0, capsys.readouterr().err
    if method == "meanflow":  # and from a folder of clips
        clip_folder(Path("set"), stills=2)
        assert execute([*command, "--data", "set", "-o", "of-clips"]) == 0, capsys.readouterr().err
    assert (
        execute(["sample", "-m", "fast", "--trust", "-p", "a cat", "-s", "1", "--steps", "1", "-o", "a.webp", "-q"])
        == 0
    )
    assert len(read_clip(Path("a.webp").read_bytes(), "a.webp", 8)) == 5
    assert "image" not in genctl.info("fast")["can"]  # no lesson had given frames
    capsys.readouterr()
    assert execute(["sample", "-m", "fast", "--trust", "-p", "a cat", "--loop", "-o", "b.webp"]) == 2
    assert "--loop" in capsys.readouterr().err
