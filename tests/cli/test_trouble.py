"""What goes wrong around a command, in files, pipes and machines: it is said, and costs what it must alone."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image, PngImagePlugin

import genctl
from genctl import devices, drawing, writing
from genctl.cli import output, say
from genctl.cli.main import execute
from genctl.errors import InputError, PipeClosedError, UsageError, WorldError, out_of_memory
from genctl.media import stream
from genctl.media.clips import frames_of
from genctl.media.formats import scans
from genctl.media.pictures import read_picture
from genctl.media.provenance import read_provenance

SAMPLE = ["sample", "--model", "tiny-ldm", "--seed", "1"]


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def halves() -> Image.Image:
    """Red above blue, 20 wide and 40 high."""
    made = Image.new("RGB", (20, 40), "blue")
    made.paste("red", (0, 0, 20, 20))
    return made


# files ---------------------------------------------------------------------------------------------------------------
def test_no_folder_where_one_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "else")
    for folder in ("file", "link"):
        with pytest.raises(WorldError, match="where its folder should be"):
            writing.write_new(tmp_path / folder / "a.png", b"x")


def test_a_link_to_nowhere_is_refused_before_any_work(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").symlink_to("/nonexistent/drive")
    assert execute([*SAMPLE, "-p", "cat", "-o", "out/"]) == 2
    assert "out is a link to nowhere, not a folder" in capsys.readouterr().err


def test_a_short_name_ends_with_a_whole_character() -> None:
    made = writing.short_name("漢字" * 15 + ".png")
    assert made == ("漢字" * 15)[:26]
    assert writing.short_name("a.png") == "a.png"


def test_files_are_read_where_nothing_can_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    monkeypatch.delattr(os, "O_NONBLOCK")
    monkeypatch.delattr(os, "set_blocking")
    (tmp_path / "a").write_bytes(b"x")
    assert stream.read_file(tmp_path / "a") == b"x"


# pictures ------------------------------------------------------------------------------------------------------------
def test_a_jpegs_scans_are_its_own(tmp_path: Path) -> None:
    thumbnail = encoded(halves(), "JPEG")
    exif = Image.Exif()
    exif[0x010E] = thumbnail.decode("latin-1")  # a description with markers in it
    plain = encoded(halves(), "JPEG", progressive=True, exif=exif)
    assert scans(encoded(halves(), "JPEG")) == 1
    assert 5 < scans(plain) < 20
    film = random.Random(0).randbytes(1 << 16) + b"\xff\xda" * 300
    assert scans(plain + film) == scans(plain)
    assert read_picture(plain + film, "motion.jpg").size == (20, 40)
    bomb = plain[:-2] + b"\xff\xda\0\2" * 300 + plain[-2:]
    assert scans(bomb) > 300


def test_one_picture_is_the_same_as_a_clip_of_one_frame() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    thumbnail = Image.new("RGB", (20, 40), "black")
    for data in (
        encoded(halves(), "JPEG", exif=turned),
        encoded(halves(), "MPO", save_all=True, append_images=[thumbnail.copy()]),
        encoded(halves(), "TIFF", save_all=True, append_images=[thumbnail.copy()]),
    ):
        ((frame, seconds),) = frames_of(data, "a")
        assert frame.tobytes() == read_picture(data, "a").tobytes()
        assert frame.size == read_picture(data, "a").size
        assert seconds > 0


def test_the_picture_that_stands_for_an_animation_is_no_frame_of_it() -> None:
    others = [Image.new("RGB", (20, 40), colour) for colour in ("green", "yellow")]
    data = encoded(halves(), "PNG", save_all=True, append_images=others, default_image=True, duration=100)
    assert [frame.getpixel((0, 0)) for frame, _ in frames_of(data, "a")] == [(0, 128, 0), (255, 255, 0)]


def test_half_a_picture_is_no_clip() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, rows = struct.pack(">IIBBBBB", 4, 8, 8, 2, 0, 0, 0), b"".join(b"\0" + b"\x80" * 12 for _ in range(4))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    with pytest.raises(InputError, match="damaged"):  # four rows of eight
        [*frames_of(data, "a.png")]


def test_pillow_pictures_are_turned_as_files_are(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "phone.jpg").write_bytes(encoded(halves(), "JPEG", exif=exif))
    opened = Image.open(tmp_path / "phone.jpg")
    assert drawing.as_picture(opened).tobytes() == drawing.as_picture(tmp_path / "phone.jpg").tobytes()
    assert opened.size == (20, 40)  # the caller's own is left alone


def test_numbers_that_json_does_not_have() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("genctl", '{"cfg": 1e999}')
    assert read_provenance(encoded(halves(), "PNG", pnginfo=info)) is None
    assert say.finite({"a": [float("inf"), 1.0], "b": {"c": float("nan")}}) == {"a": [None, 1.0], "b": {"c": None}}


# streams -------------------------------------------------------------------------------------------------------------
def test_a_line_that_fails_halfway_costs_no_later_one(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put = output.put_out

    def once(image: object, path: Path, *rest: object) -> object:
        if path.name == "out-1.png":
            raise WorldError("disk full")
        return put(image, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(output, "put_out", once)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"prompt": "cat", "n": 2}\n{"prompt": "dog"}\n')))
    assert execute([*SAMPLE, "--prompts", "-", "-o", "out-{i}.png", "--json"]) == 5
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row.get("path") for row in rows] == ["out-0.png", None, "out-2.png"]


def test_who_closes_stderr_stops_nothing(models: Path) -> None:
    command = [sys.executable, "-m", "genctl", *SAMPLE, "-p", "cat", "-o", "a.png", "--progress", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        running.stderr.close()
        out, _ = running.communicate()
    assert running.returncode == 0
    assert out.decode().strip() == "a.png"
    assert Path("a.png").exists()


def test_who_closes_stdout_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Closed())
    with pytest.raises(PipeClosedError):
        say.document({"a": 1})


def test_pipes_get_utf_8_on_any_machine(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("genctl", json.dumps({"model": "x", "prompt": "猫"}))
    (tmp_path / "a.png").write_bytes(encoded(halves(), "PNG", pnginfo=info))
    command = [sys.executable, "-m", "genctl", "info", "--json", str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "cp1252"})
    assert json.loads(done.stdout.decode("utf-8"))["prompt"] == "猫"


def test_codes_before_a_damaged_one_are_decoded(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    halves().resize((32, 32)).save("a.png")
    assert execute(["encode", "a.png", "-m", "tiny-vae", "-o", "a.safetensors"]) == 0
    whole = Path("a.safetensors").read_bytes()
    Path("b.safetensors").write_bytes(whole + whole[: len(whole) // 2])
    assert execute(["decode", "b.safetensors", "-o", "x-{i}.png"]) == 3
    assert Path("x-0.png").exists()
    assert not Path("x-1.png").exists()


def test_one_that_is_missing_costs_itself_alone(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "c.png"):
        halves().resize((32, 32)).save(name)
    assert execute(["encode", "a.png", "missing.png", "c.png", "-m", "tiny-vae", "-o", "codes/"]) == 3
    assert "1 of 3 pictures were left out, the first: missing.png: no such file" in capsys.readouterr().err
    assert sorted(path.name for path in Path("codes").iterdir()) == ["a.safetensors", "c.safetensors"]
    assert execute(["encode", "missing.png", "-m", "tiny-vae", "-o", "d.safetensors"]) == 3
    assert "genctl: missing.png: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["encode", "", "-m", "tiny-vae", "-o", "codes/"],
        ["interpolate", "", "a.png", "-m", "tiny-vae"],
        ["interpolate", "a.png", "a.png", "-m", "tiny-vae", "-o", ""],
        ["interpolate", "a.png", "a.png", "-m", "tiny-vae", "-o", "-.gif"],
    ],
)
def test_empty_names_and_streams_that_are_none(
    command: list[str], models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    halves().resize((32, 32)).save("a.png")
    assert execute(command) == 2
    assert sorted(path.name for path in Path().iterdir() if path.suffix in (".png", ".gif")) == ["a.png"]


# machines ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "said",
    ["MPS backend out of memory (MPS allocated: 1 GB)", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED"],
)
def test_every_way_of_saying_that_memory_ran_out(said: str) -> None:
    assert out_of_memory(RuntimeError(said))
    assert not out_of_memory(RuntimeError("shape mismatch"))
    assert not out_of_memory(ValueError(said))


def test_python_takes_torchs_devices_and_lists_of_prompts(models: Path) -> None:
    assert devices.device_of(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(UsageError, match="a list of prompts"):
        genctl.load("tiny-ldm").interpolate(prompts="cat")


def test_a_model_that_is_saved_meanwhile_is_read_whole(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from genctl.families import saved

    path = Path("m.safetensors")
    first, second = ((models / f"tiny-{name}.safetensors").read_bytes() for name in ("vae", "ldm"))
    path.write_bytes(first)
    empty = saved._empty

    def slow(*arguments: object) -> object:
        made = empty(*arguments)  # type: ignore[arg-type]
        path.write_bytes(second)
        return made

    monkeypatch.setattr(saved, "_empty", slow)
    assert saved.load("./m.safetensors").name == "ldm"
