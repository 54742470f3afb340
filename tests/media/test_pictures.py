"""Reading pictures: every odd format against the colour that it must show, every damaged one against a clean error."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from genctl.errors import GenctlError, InputError
from genctl.media import pictures as media
from genctl.media.folder import picture_files
from genctl.media.pictures import fit, read_picture, to_float, to_image, to_tensor, to_uint8

# genctl sets these filters for the process; pytest puts its own in their place
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def noise(width: int = 31, height: int = 17, seed: int = 0) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(seed).randbytes(3 * width * height))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand, for what Pillow cannot write."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), *more]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    raw = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(raw)


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {})])
def test_lossless_formats_keep_every_pixel(form: str, options: dict[str, Any]) -> None:
    image = noise()
    assert read_picture(encoded(image, form, **options), "a").tobytes() == image.tobytes()


@pytest.mark.parametrize("form", ["JPEG", "GIF", pytest.param("AVIF", marks=pytest.mark.skipif(
    not features.check("avif"), reason="this Pillow has no AVIF"))])  # fmt: skip
def test_lossy_formats_keep_the_colour(form: str) -> None:
    read = read_picture(encoded(Image.new("RGB", (16, 8), (200, 30, 90)), form), "a")
    assert (read.mode, read.size) == ("RGB", (16, 8))
    assert all(abs(a - b) <= 4 for a, b in zip(read.getpixel((5, 5)), (200, 30, 90), strict=True))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize(("alpha", "wanted"), [(0, 255), (255, 100), (51, 224)])
def test_alpha_is_laid_on_white(mode: str, alpha: int, wanted: int) -> None:
    colour = (100, 100, 100, alpha) if mode == "RGBA" else (100, alpha)
    data = encoded(Image.new(mode, (2, 2), colour), "PNG")
    assert read_picture(data, "a").getpixel((0, 0)) == (wanted,) * 3  # 100 a + 255 (1 - a)


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_transparent_palette_entry_is_white(form: str) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    read = read_picture(encoded(image, form, transparency=0), "a")
    assert [read.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (200, 100, 50)]


def test_a_tall_picture_is_laid_on_white_to_its_last_row() -> None:
    image = Image.new("LA", (2, 3 * media.BAND + 7), (0, 51))
    image.putpixel((1, image.height - 1), (90, 255))
    read = read_picture(encoded(image, "PNG"), "a")
    assert read.getpixel((1, image.height - 1)) == (90, 90, 90)
    assert read.getcolors() == [(2 * image.height - 1, (204, 204, 204)), (1, (90, 90, 90))]


def test_transparent_colour_of_rgb_and_grey_png_is_white() -> None:
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    read = read_picture(encoded(image, "PNG", transparency=(1, 2, 3)), "a")
    assert [read.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (9, 9, 9)]
    rows = b"\0" + struct.pack(">HHH", 5, 257 * 40, 65535)
    read = read_picture(png(3, 1, 16, 0, rows, (b"tRNS", struct.pack(">H", 5))), "a")
    assert [read.getpixel((x, 0))[0] for x in range(3)] == [255, 40, 255]


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    values = [0, 128, 129, 257 * 7, 32768, 65534, 65535]
    read = read_picture(png(len(values), 1, 16, 0, b"\0" + struct.pack(f">{len(values)}H", *values)), "a")
    assert [read.getpixel((x, 0))[0] for x in range(len(values))] == [0, 0, 1, 7, 128, 255, 255]


@pytest.mark.parametrize(("colour", "pixel"), [(2, (65535, 32896, 0)), (6, (65535, 32896, 0, 65535))])
def test_16_bit_colour(colour: int, pixel: tuple[int, ...]) -> None:
    read = read_picture(png(1, 1, 16, colour, b"\0" + struct.pack(f">{len(pixel)}H", *pixel)), "a")
    assert read.getpixel((0, 0)) == (255, 128, 0)


def test_grey_one_bit_and_cmyk() -> None:
    assert read_picture(encoded(Image.new("L", (1, 1), 77), "PNG"), "a").getpixel((0, 0)) == (77, 77, 77)
    assert read_picture(encoded(Image.new("1", (1, 1), 1), "PNG"), "a").getpixel((0, 0)) == (255, 255, 255)
    cmyk = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    red, green, blue = read_picture(cmyk, "a").getpixel((8, 8))
    assert red > 250
    assert max(green, blue) < 5


def test_32_bit_pixels_are_refused_by_name() -> None:
    for image in (Image.new("F", (2, 2), 0.5), Image.new("I", (2, 2), 1 << 20)):
        with pytest.raises(InputError, match=r"a\.tif: .*32-bit"):
            read_picture(encoded(image, "TIFF"), "a.tif")


# where the corner that is first stored (upper left) belongs, by EXIF orientation, in a picture stored 2 wide, 3 high
CORNERS = {1: (0, 0), 2: (1, 0), 3: (1, 2), 4: (0, 2), 5: (0, 0), 6: (2, 0), 7: (2, 1), 8: (0, 1)}


@pytest.mark.parametrize("orientation", CORNERS)
def test_exif_rotation(orientation: int) -> None:
    image = Image.new("RGB", (2, 3), "white")
    image.putpixel((0, 0), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = read_picture(encoded(image, "PNG", exif=exif.tobytes()), "a")
    assert read.size == ((2, 3) if orientation < 5 else (3, 2))
    assert read.getpixel(CORNERS[orientation]) == (0, 0, 0)


def test_a_damaged_exif_block_does_not_cost_the_picture() -> None:
    data = encoded(noise(), "WEBP", lossless=True, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\x12")
    assert read_picture(data, "a").tobytes() == noise().tobytes()


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_animation_gives_its_first_frame(form: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    red, _, blue = read_picture(data, "a").getpixel((1, 1))
    assert red > 240
    assert blue < 15


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3), (20000, 3)])
def test_extreme_shapes_are_read_and_fitted(size: tuple[int, int]) -> None:
    image = read_picture(encoded(Image.new("RGB", size, "teal"), "PNG"), "a")
    assert image.size == size
    for how in ("crop", "pad"):
        assert fit(image, 32, how).size == (32, 32)  # type: ignore[arg-type]


def test_wrong_files_are_named_with_what_they_are() -> None:
    with pytest.raises(
        InputError, match=r"^cat\.txt: not an image \(first bytes 'hell\.\.\.'\); give a PNG, JPEG, WebP"
    ):
        read_picture(b"hello, I am a text", "cat.txt")
    with pytest.raises(InputError, match=r"^a\.png: empty; give a PNG"):
        read_picture(b"", "a.png")
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with pytest.raises(InputError, match="not an image"):  # Pillow would start Ghostscript
        read_picture(postscript, "a.png")


def test_a_decompression_bomb_is_refused_before_it_unfolds(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = png(40_000, 40_000, 8, 0, b"")
    with pytest.raises(InputError, match="megapixels"):
        read_picture(bomb, "a.png")
    monkeypatch.setattr(media, "MOST_PIXELS", 100)
    with pytest.raises(InputError, match="megapixels"):
        read_picture(encoded(noise(), "JPEG"), "a.jpg")


def test_a_png_that_lacks_its_end_is_refused() -> None:
    data = encoded(noise(), "PNG")
    for cut in (1, 4, 12, 13, len(data) - 9):
        with pytest.raises(InputError, match="cut off"):
            read_picture(data[:-cut], "a.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_cut_or_mutated_bytes_give_a_picture_or_a_clean_error(form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(noise(), form, **({} if form in ("GIF", "BMP") else {"exif": exif.tobytes()}))
    luck = random.Random(form)
    refused = []
    for _ in range(150):
        broken = bytearray(data[: luck.randrange(len(data))] if luck.random() < 0.3 else data)
        for _ in range(luck.randrange(1, 4)):
            if broken:
                broken[luck.randrange(min(len(broken), luck.choice((64, 10_000))))] = luck.randrange(256)
        try:
            assert read_picture(bytes(broken), "a").mode == "RGB"
        except GenctlError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert all(line.startswith("a: ") and "\n" not in line for line in refused)


def test_uint8_and_float_are_inverse_on_every_value() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).repeat(3, 1, 1)
    assert to_float(every).aminmax() == (-1, 1)
    assert torch.equal(to_uint8(to_float(every)), every)
    assert torch.equal(to_uint8(torch.tensor([-9.0, 9.0, 0.0, 1 / 127.5])), torch.tensor([0, 255, 128, 128]).byte())


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
def test_tensor_round_trip(width: int, height: int, seed: int) -> None:
    image = noise(width, height, seed)
    tensor = to_tensor(image)
    assert tensor.shape == (3, height, width)
    x, y = width - 1, height // 2
    assert tuple(tensor[:, y, x].tolist()) == image.getpixel((x, y))
    assert to_image(tensor).tobytes() == to_image(to_float(tensor)).tobytes() == image.tobytes()


def test_fit_crops_the_middle_or_pads_with_white() -> None:
    image = Image.new("RGB", (6, 2), "red")
    image.paste("blue", (2, 0, 4, 2))
    assert fit(image, 2, "crop").getcolors() == [(4, (0, 0, 255))]
    padded = fit(image, 6, "pad")
    assert [padded.getpixel((0, y))[1] for y in (0, 1, 2, 3, 4, 5)] == [255, 255, 0, 0, 255, 255]
    assert fit(image.crop((0, 0, 2, 2)), 2).tobytes() == image.crop((0, 0, 2, 2)).tobytes()


def test_a_folder_is_listed_by_name_without_what_systems_leave_behind(tmp_path: Path) -> None:
    kept = ["a.PNG", "b/c.jpeg", "b/d.webp", "z.gif"]
    left = [".a.png", "__MACOSX/a.png", ".ipynb_checkpoints/a.png", "Thumbs.db", "a.txt", ".git/a.png"]
    for name in [*reversed(kept), *left]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert picture_files(tmp_path) == [tmp_path / name for name in kept]
