"""Walks between pictures: nothing is stretched, left out or shown for another time unsaid."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

import genctl
from genctl.cli.main import execute

BETWEEN = ["interpolate", "-m", "tiny-vae"]


def circle(path: str, size: tuple[int, int]) -> None:
    """A blue circle in the middle of white, 16 pixels across."""
    image = Image.new("RGB", size, "white")
    middle = (size[0] // 2, size[1] // 2)
    ImageDraw.Draw(image).ellipse((middle[0] - 8, middle[1] - 8, middle[0] + 8, middle[1] + 8), fill="blue")
    image.save(path)


def test_a_circle_stays_a_circle(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from genctl.cli.interpolate import _read
    from genctl.sizes import Size

    circle("a.png", (32, 32))
    circle("wide.png", (64, 32))
    said: list[str] = []
    for target in (None, Size(40, 40)):
        for image in _read(["a.png", "wide.png"], target, 2, said.append):
            left, top, right, bottom = image.convert("L").point(lambda level: 255 * (level < 128)).getbbox()  # type: ignore[misc]
            assert abs((right - left) - (bottom - top)) <= 1
    assert [line.split(":")[0] for line in said] == ["wide.png", "wide.png"]
    assert execute([*BETWEEN, "a.png", "wide.png", "--frames", "2", "-o", "x.png"]) == 0
    assert capsys.readouterr().err == "wide.png: its middle alone, in the proportions of the first picture (32x32)\n"
    noise = ["interpolate", "-m", "tiny-rf", "--steps", "1", "--frames", "2"]
    assert execute([*noise, "wide.png", "a.png", "-o", "n.png"]) == 0
    assert "in the proportions that the model draws (32x32)" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="the middle alone, in the proportions of 32x32"):
        genctl.load("tiny-vae").interpolate("a.png", "wide.png", frames=2)


@pytest.mark.parametrize(
    "ends", [["a.png", "b.png", "a.png", "b.png"], ["-m", "tiny-ldm", "--prompts", "a", "b", "c", "d"],
             ["-m", "tiny-ldm", "--seeds", "1-4"], ["a.png", "folder"]]
)  # fmt: skip
def test_fewer_frames_than_ends_are_refused(models: Path, ends: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder").mkdir()
    for name in ("a.png", "b.png", *(f"folder/{number}.png" for number in range(4))):
        circle(name, (32, 32))
    command = [*BETWEEN, *ends] if "-m" not in ends else ["interpolate", *ends]
    assert execute([*command, "--frames", "3"]) == 2
    assert "each of which is a frame" in capsys.readouterr().err
    assert not Path("interpolation.png").exists()


def test_a_million_seeds_are_refused_at_once(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for frames in ([], ["--frames", "1000000"]):
        assert execute(["interpolate", "-m", "tiny-ldm", "--seeds", "1-1000000", *frames]) == 2
        assert "--frames" in capsys.readouterr().err


def shown(path: str) -> list[int]:
    """The milliseconds of each frame."""
    times = []
    with Image.open(path) as image:
        for frame in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(frame)
            image.load()
            times.append(image.info["duration"])
    return times


def test_a_time_that_the_format_does_not_hold_is_said(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    circle("a.png", (32, 32))
    Image.new("RGB", (32, 32), "red").save("b.png")
    walk = [*BETWEEN, "a.png", "b.png", "--frames", "3", "--ms"]
    assert execute([*walk, "85", "-o", "w.GIF"]) == 0
    assert capsys.readouterr().err == "genctl: a GIF counts in hundredths of a second: --ms 90\n"
    assert shown("w.GIF") == [90, 90, 90]
    assert execute([*walk, "85", "-o", "w.webp"]) == 0
    assert (capsys.readouterr().err, shown("w.webp")) == ("", [85, 85, 85])
    assert execute([*walk, "40", "-o", "w.gif"]) == 0
    assert (capsys.readouterr().err, shown("w.gif")) == ("", [40, 40, 40])
    for much in ("60001", "100000000000"):
        assert execute([*walk, much, "-o", "much.gif"]) == 2
    assert execute([*walk, "40", "-o", "{i}.gif"]) == 2  # a file a frame: no time
    assert "--ms has no effect" in capsys.readouterr().err
    frames = genctl.load("tiny-vae").interpolate("a.png", "b.png", frames=2)
    with pytest.warns(UserWarning, match="90 ms a frame"):
        frames.save("p.gif", milliseconds=85)
    with pytest.raises(genctl.errors.UsageError, match="milliseconds"):
        frames.save("p.gif", milliseconds=10**9)


def test_equal_frames_are_not_shown_for_longer_than_the_format_has(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    circle("a.png", (32, 32))
    assert execute([*BETWEEN, "a.png", "a.png", "--frames", "20", "--ms", "60000", "-o", "w.gif"]) == 2
    assert "longer than a GIF has" in capsys.readouterr().err
    assert not Path("w.gif").exists()


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_the_first_frame_of_several_is_said(models: Path, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    frames[0].save(f"a.{ending}", save_all=True, append_images=frames[1:])
    frames[2].save("b.png")
    draw = ["sample", "-m", "tiny-ldm", "--steps", "1", "-p", "x", "-s", "1", "--image", f"a.{ending}"]
    for command in (
        [*BETWEEN, f"a.{ending}", "b.png", "-o", "x.png"],
        ["encode", f"a.{ending}", "-m", "tiny-vae"],
        draw,
    ):
        assert execute(command) == 0
        assert f"a.{ending}: has several frames, of which the first is used\n" in capsys.readouterr().err
    assert execute(["info", f"a.{ending}"]) == 0


def test_what_cannot_be_resumed_names_no_flag_that_is_not_there(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    circle("a.png", (32, 32))
    assert execute(["encode", "a.png", "a.png", "-m", "tiny-vae", "-o", "codes.safetensors"]) == 0
    for command in ([*BETWEEN, "a.png", "a.png", "-o", "frames/"], ["decode", "codes.safetensors", "-o", "pictures/"]):
        assert execute(command) == 0
        assert execute(command) == 2
        assert capsys.readouterr().err.endswith("exists already; -f replaces it\n")
    many = ["sample", "-m", "tiny-ldm", "-n", "2", "--seed", "1", "--steps", "1", "-o", "drawn/"]
    assert execute(many) == 0
    assert execute(many) == 2
    assert "--skip-existing goes on" in capsys.readouterr().err
