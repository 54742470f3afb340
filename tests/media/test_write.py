"""Writing: every format back to its pixels, sheets by position, files whole or not at all."""

from __future__ import annotations

import io
import random
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from genctl import files
from genctl.errors import UsageError, WorldError
from genctl.media.pictures import read_picture, to_image
from genctl.media.sheet import Layout, compose, refuse, square
from genctl.media.stream import split_pngs
from genctl.media.write import (
    MOST_SIDE,
    encode_animation,
    encode_picture,
    write_picture,
    write_stdout,
)


def noise(seed: int = 0, width: int = 21, height: int = 13) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(seed).randbytes(3 * width * height))


def flat(*levels: float) -> list[Image.Image]:
    return [to_image(torch.full((3, 2, 3), level)) for level in levels]


@pytest.mark.parametrize("form", ["png", "webp"])
def test_lossless_forms_give_back_every_pixel(form: str) -> None:
    data = encode_picture(noise(), form)
    assert Image.open(io.BytesIO(data)).format == form.upper()
    assert read_picture(data, "a").tobytes() == noise().tobytes()


def test_jpeg_is_near_and_gif_keeps_few_colours() -> None:
    smooth = Image.linear_gradient("L").convert("RGB").resize((64, 64))
    read = read_picture(encode_picture(smooth, "jpeg"), "a")
    assert max(abs(a - b) for a, b in zip(read.tobytes(), smooth.tobytes(), strict=True)) <= 4
    assert read_picture(encode_picture(smooth.quantize(64).convert("RGB"), "gif"), "a").tobytes() == (
        smooth.quantize(64).convert("RGB").tobytes()
    )


@pytest.mark.parametrize(("form", "near"), [("webp", 12), ("gif", 0), ("png", 0)])
def test_animations_have_their_frames_times_and_loop(form: str, near: int) -> None:
    colours = [(200, 0, 0), (0, 150, 0), (0, 0, 250)]
    data = encode_animation([Image.new("RGB", (16, 16), colour) for colour in colours], form, 120)
    image = Image.open(io.BytesIO(data))
    assert (image.n_frames, image.info.get("loop")) == (3, 0)
    for index, colour in enumerate(colours):
        image.seek(index)
        image.load()
        assert image.info["duration"] == 120
        pixel = image.convert("RGB").getpixel((8, 8))
        assert all(abs(a - b) <= near for a, b in zip(pixel, colour, strict=True))


def test_a_sheet_has_every_picture_in_reading_order() -> None:
    sheet = compose(flat(-1.0, -0.5, 0.0, 0.5, 1.0), square(5))  # five pictures of 3x2: 3 columns, 2 rows
    assert sheet.size == (3 * 3 + 2 * 2, 2 * 2 + 2)
    assert [sheet.getpixel((x, 0))[0] for x in (0, 5, 10)] == [0, 64, 128]
    assert [sheet.getpixel((x, 5))[0] for x in (0, 5, 10)] == [191, 255, 255]
    assert sheet.getpixel((3, 0)) == (255, 255, 255)
    assert compose(flat(0.0, 0.0), Layout(1, 2)).size == (3, 6)
    assert compose(flat(0.0), square(1)).tobytes() == flat(0.0)[0].tobytes()


def test_pictures_are_written_at_their_paths(tmp_path: Path) -> None:
    paths = [tmp_path / "new" / "a.png", tmp_path / "b.webp"]
    for seed, path in enumerate(paths):
        write_picture(path, noise(seed), {"seed": seed})
        assert read_picture(path.read_bytes(), "a").tobytes() == noise(seed).tobytes()
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["a.png", "b.webp"]


class Stdout:
    def __init__(self, terminal: bool) -> None:
        self.buffer, self.terminal = io.BytesIO(), terminal

    def isatty(self) -> bool:
        return self.terminal


def test_stdout_takes_a_stream_but_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Stdout(terminal=False)
    monkeypatch.setattr(sys, "stdout", pipe)
    for seed in range(3):
        write_stdout(encode_picture(noise(seed), "png"))
    pipe.buffer.seek(0)
    got = [read_picture(data, "a").tobytes() for data in split_pngs(pipe.buffer)]
    assert got == [noise(seed).tobytes() for seed in range(3)]
    terminal = Stdout(terminal=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    with pytest.raises(UsageError, match="stdout is a terminal"):
        write_stdout(b"x")
    assert terminal.buffer.getvalue() == b""


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    write_picture(path, noise(0))
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(WorldError, match="No space left"):
        write_picture(path, noise(1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", MOST_SIDE)
def test_a_side_that_a_format_cannot_hold_is_refused_and_the_longest_one_is_written(form: str) -> None:
    most = MOST_SIDE[form]
    assert encode_picture(Image.new("RGB", (most, 1)), form)
    with pytest.raises(UsageError, match=f"a side of {form.upper()} has at most {most}"):
        encode_picture(Image.new("RGB", (1, most + 1)), form)
    cell = ((most + 2) // 3 - 2, 1)
    refuse(form, 3, Layout(3, 1), cell)
    with pytest.raises(UsageError, match=f"at most {most}"):
        refuse(form, 4, Layout(4, 1), cell)


def test_a_sheet_of_more_than_64_megapixels_is_refused() -> None:
    refuse("png", 64, square(64), (998, 998))
    with pytest.raises(UsageError, match="more than 64 megapixels"):
        refuse("png", 65, square(65), (998, 998))
