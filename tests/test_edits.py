"""Pictures that are changed: what a mask means, how it is made smaller, and that its edge does not show."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from genctl.asked import Asked
from genctl.drawing import edit_of, mask_of, read_start
from genctl.families.flow.sample import seamless
from genctl.sizes import Size


def start_of(mask: Image.Image, folder: Path) -> tuple[torch.Tensor | None, list[str]]:
    Image.new("RGB", mask.size, "orange").save(folder / "picture.png")
    mask.save(folder / "mask.png")
    remarks: list[str] = []
    asked = Asked(image=folder / "picture.png", mask=folder / "mask.png")  # type: ignore[arg-type]
    start = read_start(asked, remarks.append)
    assert start is not None
    return edit_of(asked, start, Size(32, 32), remarks.append).mask, remarks


def test_white_paint_on_transparency_redraws_what_is_painted(tmp_path: Path) -> None:
    mask = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
    ImageDraw.Draw(mask).rectangle((8, 8, 15, 15), fill=(255, 255, 255, 255))
    found, remarks = start_of(mask, tmp_path)
    assert found is not None
    assert found.sum() == 64
    assert found[0, 8:16, 8:16].all()
    assert not remarks


def test_an_erased_picture_is_kept_where_it_is_transparent(tmp_path: Path) -> None:
    mask = Image.new("RGBA", (32, 32), (250, 240, 230, 255))
    ImageDraw.Draw(mask).rectangle((0, 0, 31, 15), fill=(250, 240, 230, 0))
    found, _ = start_of(mask, tmp_path)
    assert found is not None
    assert not found[0, :16].any()
    assert found[0, 16:].all()


@pytest.mark.parametrize(("colour", "word"), [("white", "everywhere"), ("black", "nowhere")])
def test_a_mask_of_one_colour_is_said(tmp_path: Path, colour: str, word: str) -> None:
    _, remarks = start_of(Image.new("L", (32, 32), colour), tmp_path)
    assert [word in line for line in remarks] == [True]


@pytest.mark.parametrize(("wide", "high"), [(1000, 1000), (1333, 777), (32, 32), (7, 5), (4000, 64)])
def test_a_thin_stroke_does_not_vanish(wide: int, high: int) -> None:
    size = Size(32, 16)
    for x in range(0, wide, max(1, wide // 50)):
        mask = Image.new("L", (wide, high), 0)
        mask.putpixel((x, high // 2), 255)
        scale = max(size.width / wide, size.height / high)
        inside = abs(x + 0.5 - wide / 2) < size.width / scale / 2 - 0.5
        assert bool(mask_of(mask, size).any()) == inside or not inside


def test_an_equal_size_keeps_every_pixel_of_a_mask() -> None:
    mask = Image.effect_noise((32, 16), 200)
    wanted = torch.tensor([[float(mask.getpixel((x, y)) > 127) for x in range(32)] for y in range(16)])  # type: ignore[operator]
    assert torch.equal(mask_of(mask, Size(32, 16))[0], wanted)


def test_the_edge_of_a_mask_does_not_show() -> None:
    kept, drawn = torch.full((3, 128, 128), -0.5), torch.full((2, 3, 128, 128), 0.75)
    mask = torch.zeros(1, 128, 128)
    mask[:, 30:90, 20:100] = 1
    made = seamless(drawn, kept, mask)
    outside = (mask == 0).expand(3, -1, -1)
    assert torch.equal(made[1][outside], kept[outside])
    assert torch.equal(made[:, :, 45:75, 35:85], drawn[:, :, 45:75, 35:85])
    steps = made[0, 0, 60, :].diff().abs()
    assert steps.max() < 0.4 * 1.25  # a hard edge is a step of 1.25


def test_a_thin_part_is_drawn_in_full_along_its_middle() -> None:
    kept, drawn = torch.full((3, 128, 128), -0.5), torch.full((1, 3, 128, 128), 0.75)
    for width in (1, 3, 7):
        mask = torch.zeros(1, 128, 128)
        mask[:, :, 60 : 60 + width] = 1
        made = seamless(drawn, kept, mask)[0, 0, 64]
        assert made.max() == pytest.approx(0.75)
        assert (made > -0.5).sum() <= width


def test_all_or_nothing_is_all_or_nothing() -> None:
    kept, drawn = torch.rand(3, 16, 16), torch.rand(2, 3, 16, 16)
    assert torch.equal(seamless(drawn, kept, torch.ones(1, 16, 16)), drawn)
    assert torch.equal(seamless(drawn, kept, torch.zeros(1, 16, 16)), kept.expand(2, -1, -1, -1))
