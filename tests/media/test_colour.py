"""Colour profiles against profiles whose effect is known; and other metadata, none of which may spoil a picture."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms, PngImagePlugin

from genctl.data.pictures import DataConfig, load
from genctl.drawing import as_picture
from genctl.media.pictures import read_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RED, BLUE = (230, 30, 60), (60, 30, 230)


def swapped(profile: bytes = SRGB) -> bytes:
    """The profile with its red and blue primaries exchanged: what it says is red is meant blue."""
    data = bytearray(profile)
    places = {}
    for index in range(struct.unpack(">I", data[128:132])[0]):
        start = 132 + 12 * index
        places[bytes(data[start : start + 4])] = start
    red, blue = places[b"rXYZ"], places[b"bXYZ"]
    data[red + 4 : red + 12], data[blue + 4 : blue + 12] = data[blue + 4 : blue + 12], data[red + 4 : red + 12]
    return bytes(data)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def near(a: Any, b: Any, most: int = 3) -> bool:
    return all(abs(x - y) <= most for x, y in zip(a, b, strict=True))


def with_part(png: bytes, kind: bytes, body: bytes, spoil: int = 0) -> bytes:
    """The PNG with one more part after its header."""
    part = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ spoil)
    return png[:33] + part + png[33:]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_profile_changes_the_numbers(form: str, mode: str) -> None:
    if (form, mode) == ("JPEG", "RGBA"):
        pytest.skip("a JPEG has no transparency")
    remarks: list[str] = []
    colour = RED if mode == "RGB" else (*RED, 255)
    data = encoded(
        Image.new(mode, (16, 16), colour), form, icc_profile=swapped(), **{"lossless": True} if form == "WEBP" else {}
    )
    assert near(read_picture(data, "a", remarks.append).getpixel((5, 5)), BLUE)
    assert not remarks


def test_a_profile_is_used_under_transparency_and_in_a_palette() -> None:
    half = encoded(Image.new("RGBA", (4, 4), (*RED, 128)), "PNG", icc_profile=swapped())
    assert near(read_picture(half, "a").getpixel((1, 1)), [round(128 / 255 * b + 127 / 255 * 255) for b in BLUE])
    indexed = Image.new("RGB", (4, 4), RED).quantize(4)
    assert near(read_picture(encoded(indexed, "PNG", icc_profile=swapped()), "a").getpixel((1, 1)), BLUE)


def test_srgb_itself_changes_no_byte() -> None:
    image = Image.effect_noise((40, 30), 90).convert("RGB")
    assert read_picture(encoded(image, "PNG", icc_profile=SRGB), "a").tobytes() == image.tobytes()


@pytest.mark.parametrize("profile", [b"nonsense", SRGB[:200], swapped()[:128] + bytes(400)])
def test_a_profile_that_cannot_be_used_is_ignored_with_a_remark(profile: bytes) -> None:
    for form in ("PNG", "JPEG"):
        remarks: list[str] = []
        data = encoded(Image.new("RGB", (8, 8), RED), form, icc_profile=profile)
        assert near(read_picture(data, "a.png", remarks.append).getpixel((1, 1)), RED)
        assert ["colour profile is ignored" in line for line in remarks] == [True]


def test_a_profile_for_another_kind_of_picture_is_ignored_with_a_remark() -> None:
    remarks: list[str] = []
    data = encoded(Image.new("L", (8, 8), 77), "PNG", icc_profile=swapped())
    assert read_picture(data, "a.png", remarks.append).getpixel((1, 1)) == (77, 77, 77)
    assert "it is for RGB" in remarks[0]


def test_profiles_count_everywhere_a_picture_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), RED).save(tmp_path / "a.png", icc_profile=swapped())
    assert near(as_picture(tmp_path / "a.png").getpixel((3, 3)), BLUE)
    assert near(as_picture(Image.open(tmp_path / "a.png")).getpixel((3, 3)), BLUE)
    assert near(load(tmp_path, 16, DataConfig()).pixels[0, :, 3, 3].tolist(), BLUE)


PARTS = (
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"iCCP",
    b"eXIf",
    b"tIME",
    b"quSt",
    b"gAMA",
    b"cHRM",
    b"sRGB",
    b"pHYs",
    b"acTL",
    b"fcTL",
)


@pytest.mark.parametrize("kind", PARTS)
def test_metadata_never_spoils_a_picture(kind: bytes) -> None:
    image = Image.effect_noise((40, 30), 90).convert("RGB")
    png = encoded(image, "PNG")
    large = b"key\0" + b"x" * (3 << 20) if kind != b"zTXt" else b"key\0\0" + zlib.compress(bytes(80 << 20))
    for body, spoil in ((large, 0), (b"key\0 short", 1), (b"", 0)):
        assert read_picture(with_part(png, kind, body, spoil), "a.png").tobytes() == image.tobytes()


@pytest.mark.parametrize("mark", [0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE])
def test_what_a_jpeg_says_beside_its_picture_never_spoils_it(mark: int) -> None:
    image = Image.effect_noise((40, 30), 90).convert("RGB")
    jpeg = encoded(image, "JPEG")
    wanted = read_picture(jpeg, "a.jpg").tobytes()
    names = (b"", b"JFIF\0", b"Exif\0\0", b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"MPF\0", b"Adobe")
    remarks: list[str] = []
    for name in names:
        for more in (b"", b"\1", b"\1\2\3", bytes(40)):
            if not (mark == 0xEE and name == b"Adobe" and len(more) > 3):  # else it says what its colours are
                part = bytes([0xFF, mark]) + struct.pack(">H", 2 + len(name + more)) + name + more
                assert read_picture(jpeg[:2] + part + jpeg[2:], "a.jpg", remarks.append).tobytes() == wanted
    assert all("a.jpg: " in line and "ignored" in line for line in remarks)


def test_a_profile_of_two_megabytes_is_used() -> None:
    private = struct.pack(">4sII", b"priv", 0, 0)
    count = struct.unpack(">I", swapped()[128:132])[0]
    table, rest = swapped()[132 : 132 + 12 * count], swapped()[132 + 12 * count :]
    moved = b"".join(
        struct.pack(">4sII", name, offset + 12, size) for name, offset, size in struct.iter_unpack(">4sII", table)
    )
    private = struct.pack(">4sII", b"priv", 144 + 12 * count + len(rest), 2 << 20)
    profile = swapped()[4:128] + struct.pack(">I", count + 1) + moved + private + rest + bytes(2 << 20)
    profile = struct.pack(">I", len(profile) + 4) + profile
    png = with_part(encoded(Image.new("RGB", (8, 8), RED), "PNG"), b"iCCP", b"big\0\0" + zlib.compress(profile))
    assert near(read_picture(png, "a").getpixel((1, 1)), BLUE)


def test_a_text_beside_the_provenance_does_not_hide_it() -> None:
    from genctl.media.provenance import embed, read_provenance

    png = encoded(Image.new("RGB", (8, 8), RED), "PNG", **embed({"model": "ldm", "seed": 3}, "png"))
    assert read_provenance(with_part(png, b"tEXt", b"workflow\0" + b"x" * (3 << 20))) == {"model": "ldm", "seed": 3}
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x", zip=True)
    assert read_provenance(encoded(Image.new("RGB", (8, 8), RED), "PNG", pnginfo=info)) is None


def test_several_frames_are_said() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for form in ("GIF", "WEBP", "PNG"):
        remarks: list[str] = []
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
        assert near(read_picture(data, "a.gif", remarks.append).getpixel((1, 1)), (255, 0, 0), 8)
        assert remarks == ["a.gif: has several frames, of which the first is used"]


def test_a_data_folder_says_what_it_does_with_odd_pictures(tmp_path: Path) -> None:
    for index in range(3):
        Image.new("RGB", (16, 16), RED).save(tmp_path / f"{index}.png")
    Image.new("RGB", (16, 16), RED).save(tmp_path / "profile.png", icc_profile=b"nonsense")
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    for _ in range(2):  # the second time from the cache
        summary = load(tmp_path, 16, DataConfig()).summary
        assert "1 whose colour profile is ignored (profile.png)" in summary
        assert "1 of several frames, of which the first is used (moving.gif)" in summary
