"""Less usual formats, PNGs that lack rows, and what lies in a folder, linked or not."""

import io
import os
import random
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from genctl.errors import InputError
from genctl.media import formats
from genctl.media.folder import look, picture_files
from genctl.media.pictures import read_picture
from genctl.media.rows import ADAM7

PICTURE = Image.radial_gradient("L").resize((48, 32)).convert("RGB")


def packed(form: str, **options: object) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, form, **options)
    return file.getvalue()


def png(width: int, height: int, colour: int, depth: int, interlaced: int, rows: bytes) -> bytes:
    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    palette = part(b"PLTE", bytes(6)) if colour == 3 else b""
    half = zlib.compress(rows)
    data = part(b"IDAT", half[:7]) + part(b"IDAT", half[7:])
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + palette + data + part(b"IEND", b"")


@pytest.mark.parametrize(
    ("colour", "depth", "bits"), [(0, 8, 8), (0, 1, 1), (2, 8, 24), (2, 16, 48), (3, 2, 2), (4, 8, 16), (6, 8, 32)]
)
@pytest.mark.parametrize(("width", "height"), [(13, 11), (1, 1), (3, 9)])
def test_a_png_that_lacks_rows_is_refused_and_a_whole_one_read(
    colour: int, depth: int, bits: int, width: int, height: int
) -> None:
    plain = bytes(height * (1 + (width * bits + 7) // 8))
    sides = [(len(range(x, width, across)), len(range(y, height, down))) for x, y, across, down in ADAM7]
    passes = bytes(sum(tall * (1 + (wide * bits + 7) // 8) for wide, tall in sides if wide))
    for interlaced, rows in ((0, plain), (1, passes)):
        assert read_picture(png(width, height, colour, depth, interlaced, rows), "a.png").size == (width, height)
        with pytest.raises(InputError, match=r"a\.png: a damaged picture \(its data hold"):
            read_picture(png(width, height, colour, depth, interlaced, rows[:-1]), "a.png")


def test_ppm_tga_and_jfif_are_read(tmp_path: Path) -> None:
    for name, form in (("a.ppm", "PPM"), ("a.TGA", "TGA"), ("a.jfif", "JPEG"), ("b.tga", "PNG")):
        made = read_picture(packed(form), name)
        difference = max(abs(x - y) for x, y in zip(made.tobytes(), PICTURE.tobytes(), strict=True))
        assert difference <= (8 if form == "JPEG" else 0)
    with pytest.raises(InputError, match="not an image"):
        read_picture(packed("TGA"), "a.png")  # whose first bytes say nothing
    with pytest.raises(InputError):
        read_picture(b"hello, I am no picture at all, of any kind", "a.tga")


def test_a_ppm_that_takes_minutes_is_refused() -> None:
    assert read_picture(b"P3 2 1 255 255 0 0  0 0 255", "a.ppm").getpixel((1, 0)) == (0, 0, 255)
    for head in (b"P3 2000 1000 255\n", b"P6 2000 1000 65535\n"):
        with pytest.raises(InputError, match="2000x1000 PPM that is not of 8 bits"):
            read_picture(head + b"1 " * 9000, "a.ppm")


def test_heic_is_read_by_its_extra() -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    made = read_picture(packed("HEIF", quality=95), "a.HEIC")
    assert made.size == PICTURE.size
    with pytest.raises(InputError, match=r"a\.HEIC"):
        read_picture(packed("HEIF")[:-200], "a.HEIC")


def test_heic_without_its_extra_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "heic_ready", lambda: False)
    data = b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf" + bytes(100)
    with pytest.raises(InputError, match=r"^a\.heic: HEIC needs pip install 'genctl\[heic\]'"):
        read_picture(data, "a.heic")


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    inside, elsewhere = tmp_path / "set", tmp_path / "elsewhere"
    for name in (inside / "cat/a.png", elsewhere / "b.png", elsewhere / "deep/c.png"):
        name.parent.mkdir(parents=True, exist_ok=True)
        PICTURE.save(name)
    (inside / "a-link").symlink_to(elsewhere)
    (inside / "loop").symlink_to(inside)
    (elsewhere / "back").symlink_to(inside / "cat")
    (inside / "again").symlink_to(elsewhere / "deep")
    (inside / "e.png").symlink_to(elsewhere / "b.png")
    (inside / "gone.png").symlink_to("nowhere.png")
    (inside / "round.png").symlink_to("round.png")
    os.mkfifo(inside / "pipe.png")
    found = look(inside)
    names = [path.relative_to(inside).as_posix() for path in found.pictures]
    assert names == ["a-link/b.png", "a-link/deep/c.png", "cat/a.png", "e.png"]
    said = "; ".join(found.notes())
    assert "3 linked folders that are in it already (" in said
    assert "2 links that lead nowhere (gone.png)" in said
    assert "1 device, pipe or socket (pipe.png)" in said
    assert picture_files(inside) == found.pictures


def test_every_other_file_is_counted_by_its_kind(tmp_path: Path) -> None:
    for name in ("a.svg", "b/c.SVG", "x", "README.md", "a.txt", "metadata.csv", ".hidden.psd", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert look(tmp_path).notes() == ["2 .svg not read (a.svg)", "1 .md not read (notes.md)",
                                      "1 without an ending not read (x)"]  # fmt: skip
    for index in range(8):
        (tmp_path / f"y.{index}").write_bytes(b"")
    assert "5 files of other kinds not read (y.5)" in look(tmp_path).notes()


@pytest.mark.parametrize(("form", "name"), [("PPM", "a.ppm"), ("TGA", "a.tga"), ("HEIF", "a.heic"), ("PNG", "a.png")])
def test_mutated_files_of_less_usual_formats_are_read_or_refused(form: str, name: str) -> None:
    if form == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data, dice = packed(form), random.Random(form)
    read, said = 0, list[str]()
    for _ in range(300):
        made = bytearray(data)
        for _ in range(dice.randint(1, 3)):
            place = dice.randrange(min(len(made), dice.choice([64, len(made)])))
            made[place : place + dice.randrange(3)] = dice.choice([b"\xff", b"\0\0", b"9", b"-", b""])
        try:
            read += read_picture(bytes(made), name).mode == "RGB"
        except InputError as error:
            said.append(str(error))
    assert said
    assert all(line.startswith(f"{name}: ") for line in said)
    assert read > 0 or form == "PNG"
