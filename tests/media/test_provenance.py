"""What a picture says of itself: kept by every format, read by others, and never trusted."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from genctl.media.provenance import MOST_TEXT, embed, parameters, read_provenance
from genctl.media.write import encode_animation, encode_picture

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
FORMS = ["png", "webp", "jpeg", "gif"]
DOCUMENT = {
    "version": "0.1.0", "model": "ldm", "sha256": "ab" * 32, "prompt": 'кот & "猫" <🐈>\nnext line', "negative": "dog",
    "seed": 7, "steps": 20, "solver": "euler", "guidance_scale": 4.0, "guidance_interval": [0.1, 1.0], "size": "128x96",
}  # fmt: skip


def picture() -> Image.Image:
    return Image.frombytes("RGB", (12, 9), random.Random(0).randbytes(3 * 12 * 9))


def user_comment(data: bytes) -> str:
    raw = Image.open(io.BytesIO(data)).getexif().get_ifd(0x8769)[0x9286]
    assert raw[:8] == b"UNICODE\0"
    return raw[8:].decode("utf-16-be")


@pytest.mark.parametrize("form", FORMS)
def test_round_trip_with_any_script(form: str) -> None:
    assert read_provenance(encode_picture(picture(), form, DOCUMENT)) == DOCUMENT


@pytest.mark.parametrize("form", ["png", "webp", "gif"])
def test_round_trip_in_an_animation(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    assert read_provenance(encode_animation(frames, form, 80, DOCUMENT)) == DOCUMENT


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMS), st.text(max_size=40), st.text(max_size=10))
def test_round_trip_of_any_text(form: str, prompt: str, negative: str) -> None:
    document = {"prompt": prompt, "negative": negative, "seed": 1}
    kept = read_provenance(encode_picture(Image.new("RGB", (2, 2)), form, document))
    assert kept == json.loads(json.dumps(document).encode("utf-8", "replace"))


@pytest.mark.parametrize("form", FORMS)
def test_same_document_same_bytes_and_nothing_when_not_wanted(form: str) -> None:
    shuffled = dict(reversed(DOCUMENT.items()))
    assert encode_picture(picture(), form, DOCUMENT) == encode_picture(picture(), form, shuffled)
    plain = encode_picture(picture(), form)
    assert read_provenance(plain) is None
    assert not re.search(b"genctl|Steps|Exif|tEXt|iTXt", plain)


def test_parameters_are_as_the_galleries_read_them() -> None:
    wanted = (
        'кот & "猫" <🐈>\nnext line\nNegative prompt: dog\n'
        "Steps: 20, Sampler: Euler, CFG scale: 4, Seed: 7, Size: 128x96, Model: ldm, Version: genctl 0.1.0"
    )
    assert parameters(DOCUMENT) == wanted
    assert Image.open(io.BytesIO(encode_picture(picture(), "png", DOCUMENT))).text["parameters"] == wanted
    for form in ("webp", "jpeg"):
        assert user_comment(encode_picture(picture(), form, DOCUMENT)) == wanted
    assert parameters({"prompt": None, "version": "1"}) == "\nVersion: genctl 1"


def test_a_latin_prompt_is_a_plain_text_chunk() -> None:
    data = encode_picture(picture(), "png", {"prompt": "cat", "seed": 0})
    assert b"tEXtparameters\0cat\n" in data
    assert b"iTXtgenctl\0\0\0\0\0{" in data


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_exiftool_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encode_picture(picture(), "jpeg", DOCUMENT))
    done = subprocess.run(["exiftool", "-UserComment", "-b", str(tmp_path / "a.jpg")], capture_output=True, check=True)
    assert done.stdout.decode() == parameters(DOCUMENT)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("letter", ["a", "&", "🐈", "\x01"])
def test_a_prompt_too_long_for_the_format_is_shortened_and_the_rest_kept(form: str, letter: str) -> None:
    document = {"prompt": letter * 100_000, "model": "ldm", "seed": 3}
    kept = read_provenance(encode_picture(picture(), form, document))
    assert kept is not None
    assert (kept["model"], kept["seed"]) == ("ldm", 3)
    assert 1000 < len(kept["prompt"]) <= MOST_TEXT
    assert set(kept["prompt"]) == {letter}


@pytest.mark.parametrize("form", FORMS)
def test_an_argument_that_was_not_utf8(form: str) -> None:
    kept = read_provenance(encode_picture(picture(), form, {"prompt": "cat\udcff\0", "seed": 1}))
    assert kept == {"prompt": "cat?\0", "seed": 1}


def png_with(text: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("genctl", text)
    out = io.BytesIO()
    picture().save(out, "PNG", pnginfo=info)
    return out.getvalue()


@pytest.mark.parametrize("text", [
    "", "{", "[]", "3", "null", '"text"', "[" * 100_000, '{"guidance_scale": NaN}', '{"seed": "1; rm"}',
    '{"seed": true}', '{"steps": 1.5}', '{"prompt": ["a"]}', '{"guidance_interval": [1, 2, 3]}', '{"model": {}}',
    '{"seed": ' + "9" * 5000 + "}", '{"x": "' + "y" * (1 << 21) + '"}',
])  # fmt: skip
def test_a_strangers_document_is_none(text: str) -> None:
    assert read_provenance(png_with(text)) is None


def test_text_behind_the_pixels_is_found() -> None:
    data = encode_picture(picture(), "png", DOCUMENT)
    start = data.index(b"iTXtgenctl") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    last = data.index(b"IEND") - 4
    assert read_provenance(data[:start] + data[end:last] + data[start:end] + data[last:]) == DOCUMENT


@pytest.mark.parametrize("form", FORMS)
def test_damaged_files_say_nothing_or_something_but_never_crash(form: str) -> None:
    data, luck = encode_picture(picture(), form, DOCUMENT), random.Random(form)
    for _ in range(150):
        broken = bytearray(data[: luck.randrange(len(data))] if luck.random() < 0.3 else data)
        for _ in range(4):
            if broken:
                broken[luck.randrange(len(broken))] = luck.randrange(256)
        assert isinstance(read_provenance(bytes(broken)), dict | None)
    assert read_provenance(b"") is None
    assert read_provenance(b"hello") is None


def test_no_path_host_user_or_time_is_written() -> None:
    options: dict[str, Any] = embed({"seed": 1, "model": "ldm"}, "jpeg")
    exif = Image.Exif()
    exif.load(options["exif"])
    assert set(exif) == {0x8769}
    assert set(exif.get_ifd(0x8769)) == {0x9286}


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_picture(picture(), "png", DOCUMENT))
    code = (
        "import sys; from genctl.media.provenance import read_provenance as r; from genctl.media import names, stream\n"
        f"d = r(stream.read_file(names.Path({str(tmp_path / 'a.png')!r}))); print(d['seed'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["7", "False"]
