"""Streams: split exactly where the pictures end, live, and understood by a real ffmpeg both ways."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

from genctl.errors import GenctlError, InputError, UsageError
from genctl.media import png, stream
from genctl.media.codes import pack_codes
from genctl.media.pictures import read_picture
from genctl.media.stream import codes_from, pictures_from, read_file, split_documents, split_pngs
from genctl.media.write import encode_picture

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def noise(seed: int, width: int = 16, height: int = 12) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(seed).randbytes(3 * width * height))


def pngs(count: int) -> list[bytes]:
    return [encode_picture(noise(seed), "png", {"seed": seed}) for seed in range(count)]


def codes(count: int) -> list[bytes]:
    return [pack_codes(torch.randn(4, 2, 3 + n), {"model": "vae", "pixels": [16, 24]}) for n in range(count)]


def on_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize(("split", "make"), [(split_pngs, pngs), (split_documents, codes)])
def test_parts_come_out_as_they_went_in(split, make) -> None:  # noqa: ANN001
    parts = make(3)
    assert list(split(io.BytesIO(b"".join(parts)))) == parts
    assert list(split(io.BytesIO(b""))) == []


@pytest.mark.parametrize(("split", "make"), [(split_pngs, pngs), (split_documents, codes)])
def test_a_live_pipe_gives_each_part_before_the_next_is_written(split, make) -> None:  # noqa: ANN001
    parts = make(3)
    reader, writer = os.pipe()
    with open(reader, "rb") as source, open(writer, "wb", buffering=0) as sink:
        iterator = split(source)
        for part in parts:  # would block for ever here if the splitter asked for a byte more than the part has
            sink.write(part)
            got: list[bytes] = []
            thread = threading.Thread(target=lambda into=got: into.append(next(iterator)), daemon=True)
            thread.start()
            thread.join(timeout=10)
            assert got == [part]


class Trickle(io.RawIOBase):
    """Gives one to seven bytes at a time, as a socket may."""

    def __init__(self, data: bytes) -> None:
        self.inner, self.luck = io.BytesIO(data), random.Random(0)

    def read(self, size: int = -1) -> bytes:
        return self.inner.read(min(size, self.luck.randrange(1, 8)))


def test_short_reads_are_put_together() -> None:
    parts = pngs(2)
    assert list(split_pngs(Trickle(b"".join(parts)))) == parts  # type: ignore[arg-type]


def test_the_broken_picture_of_a_stream_is_named_and_those_before_it_are_kept() -> None:
    first, second = pngs(2)
    for broken, words in [(second[:-3], "cut off"), (b"GIF89a..", "not a PNG"), (b"\x89PNG", "cut off")]:
        iterator = split_pngs(io.BytesIO(first + broken))
        assert next(iterator) == first
        with pytest.raises(InputError, match=f"stdin, picture 2: .*{words}"):
            next(iterator)
    flipped = bytearray(second)
    flipped[len(second) // 2] ^= 1
    with pytest.raises(InputError, match=r"picture 2: a damaged PNG \(wrong checksum"):
        list(split_pngs(io.BytesIO(first + flipped)))


def test_claims_of_size_allocate_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="MiB"):
        list(split_pngs(io.BytesIO(png.PNG_START + b"\xff\xff\xff\xffIDAT" + bytes(99))))
    with pytest.raises(InputError, match="not a safetensors file"):
        list(split_documents(io.BytesIO((1 << 40).to_bytes(8, "little") + b"{}")))
    monkeypatch.setattr(stream, "MOST_DOCUMENT", 16)
    with pytest.raises(InputError, match="more than any code has"):
        list(split_documents(io.BytesIO(codes(1)[0])))


def test_a_cut_document_is_named() -> None:
    first, second = codes(2)
    for cut in (1, 7, len(second) - 20, len(second) - 3):
        iterator = split_documents(io.BytesIO(first + second[:-cut]))
        assert next(iterator) == first
        with pytest.raises(InputError, match="stdin, codes 2: "):
            next(iterator)


@pytest.mark.parametrize(("split", "make"), [(split_pngs, pngs), (split_documents, codes)])
def test_mutated_streams_end_in_parts_or_a_clean_error(split, make) -> None:  # noqa: ANN001
    data, luck, refused = b"".join(make(2)), random.Random(1), []
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(luck.randrange(1, 4)):
            broken[luck.randrange(len(broken))] = luck.randrange(256)
        try:
            list(split(io.BytesIO(bytes(broken[: luck.randrange(len(broken) + 1)]))))
        except GenctlError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert all(line.startswith("stdin, ") for line in refused)


def ffmpeg(data: bytes, options: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-threads", "1", *options.split()]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


@needs_ffmpeg
def test_ffmpeg_reads_our_stream_pixel_for_pixel() -> None:
    count = 5
    assert ffmpeg(b"".join(pngs(count)), "-f image2pipe -i - -f rawvideo -pix_fmt rgb24 -") == b"".join(
        noise(seed).tobytes() for seed in range(count)
    )


@needs_ffmpeg
def test_we_read_ffmpegs_stream_pixel_for_pixel() -> None:
    raw = b"".join(noise(seed).tobytes() for seed in range(4))
    stream_of_pngs = ffmpeg(raw, "-f rawvideo -pix_fmt rgb24 -s 16x12 -i - -f image2pipe -c:v png -")
    frames = [read_picture(data, "frame").tobytes() for data in split_pngs(io.BytesIO(stream_of_pngs))]
    assert b"".join(frames) == raw


def test_inputs_are_files_folders_and_stdin_in_the_order_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = pngs(3)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "b.png").write_bytes(two)
    (folder / "a.png").write_bytes(one)
    (tmp_path / "c.png").write_bytes(three)
    on_stdin(monkeypatch, one + three)
    got = list(pictures_from([str(tmp_path / "c.png"), str(folder), "-"]))
    assert [data for _, data in got] == [three, one, two, one, three]
    assert [Path(name).name for name, _ in got] == ["c.png", "a.png", "b.png", "stdin, picture 1", "stdin, picture 2"]


def test_a_stream_saved_as_a_file_gives_all_its_pictures(tmp_path: Path) -> None:
    parts = pngs(3)
    (tmp_path / "s.png").write_bytes(b"".join(parts))
    assert [data for _, data in pictures_from([str(tmp_path / "s.png")])] == parts


def test_what_is_not_there_is_said_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cat.png").write_bytes(b"")
    with pytest.raises(InputError, match=r'cta\.png: no such file \(did you mean "cat\.png"\?\)'):
        list(pictures_from([str(tmp_path / "cta.png")]))
    with pytest.raises(InputError, match=r"nope\.png: no such file$"):
        list(pictures_from([str(tmp_path / "nope.png")]))
    with pytest.raises(InputError, match="nor is there a folder"):
        list(pictures_from([str(tmp_path / "no" / "a.png")]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures in this folder"):
        list(pictures_from([str(tmp_path / "empty")]))
    on_stdin(monkeypatch, b"")
    with pytest.raises(InputError, match="stdin: empty"):
        list(pictures_from(["-"]))
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="nothing is piped"):
        list(pictures_from(["-"]))


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_FILE", 10)
    (tmp_path / "film.png").write_bytes(bytes(11))
    with pytest.raises(InputError, match=r"film\.png: more than"):
        read_file(tmp_path / "film.png")


def test_codes_come_from_a_file_or_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = codes(2)
    (tmp_path / "a.safetensors").write_bytes(b"".join(parts))
    assert [data for _, data in codes_from(str(tmp_path / "a.safetensors"))] == parts
    on_stdin(monkeypatch, b"".join(parts))
    assert [data for _, data in codes_from("-")] == parts
    assert not sys.stdin.buffer.closed
    (tmp_path / "a.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        list(codes_from(str(tmp_path / "a.safetensors")))
