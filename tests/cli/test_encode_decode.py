"""genctl encode and decode over folders and odd names: nothing collides, one bad picture costs itself alone, and large
or hostile files are refused before they fill the memory."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from genctl.cli.main import execute
from genctl.files import save_tensors
from genctl.media.codes import read_codes
from genctl.media.stream import split_documents

ENCODE = ["encode", "-m", "tiny-vae"]


def picture(path: str, colour: str = "teal", size: tuple[int, int] = (32, 32)) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def found(folder: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def tree() -> None:
    """Six pictures, two of them bad, three of one name."""
    picture("in/a.png", "red")
    picture("in/sub/a.png", "green")
    picture("in/sub/deep/a.png", "blue")
    picture("in/{x}.png", "white")
    Path("in/bad.png").write_text("no picture")
    Path("in/sub/cut.png").write_bytes(Path("in/a.png").read_bytes()[:50])


GOOD = {"a.safetensors", "sub/a.safetensors", "sub/deep/a.safetensors", "{x}.safetensors"}


def test_a_folder_keeps_its_tree_and_bad_pictures_cost_themselves(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree()
    assert execute([*ENCODE, "in/", "-o", "out/"]) == 3
    out, err = capsys.readouterr()
    assert found("out") == GOOD
    assert len(out.split()) == 4
    lines = err.splitlines()
    assert [line.split(":")[2].strip() for line in lines[:-1]] == ["in/bad.png", "in/sub/cut.png"]
    assert lines[-1].startswith("genctl: 2 of 6 pictures were left out, the first: in/bad.png")
    Path("in/bad.png").unlink()
    Path("in/sub/cut.png").unlink()
    before = {name: Path("out", name).read_bytes() for name in GOOD}
    picture("in/new.png")
    assert execute([*ENCODE, "in", "-o", "out/", "--skip-existing"]) == 0
    out, err = capsys.readouterr()
    assert (out.split(), err) == (["out/new.safetensors"], "4 of 5 exist already, left as they are\n")
    assert {name: Path("out", name).read_bytes() for name in GOOD} == before


@pytest.mark.parametrize("to", ["-", "all.safetensors"])
def test_one_stream_or_file_leaves_bad_pictures_out_too(
    models: Path, to: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    tree()
    assert execute([*ENCODE, "in", "-o", to]) == 3
    out, err = capsysbinary.readouterr()
    data = out if to == "-" else Path(to).read_bytes()
    assert len(list(split_documents(io.BytesIO(data)))) == 4
    assert err.decode().splitlines()[-1].startswith("genctl: 2 of 6 pictures were left out, the first: in/bad.png")


def test_one_bad_picture_alone_is_the_error_and_leaves_nothing(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.png").write_text("no picture")
    for to in ([], ["-o", "x.safetensors"], ["-o", "out/"]):
        assert execute([*ENCODE, "bad.png", *to]) == 3
        assert capsys.readouterr().err.startswith("genctl: bad.png: not an image")
    assert found(".") == {"bad.png"}


@pytest.mark.parametrize(
    ("to", "made"),
    [
        ("out/", {"out/a.safetensors", "out/a-2.safetensors"}),
        ("out-{prompt}.safetensors", {"out-a.safetensors", "out-a-2.safetensors"}),
        ("out-{i}.safetensors", {"out-0.safetensors", "out-1.safetensors"}),
    ],
)
def test_two_inputs_of_one_name_do_not_collide(models: Path, to: str, made: set[str]) -> None:
    picture("f/a.png", "red")
    picture("g/a.png", "blue")
    assert execute([*ENCODE, "f/a.png", "g/a.png", "-o", to]) == 0
    assert {name for name in found(".") if name.startswith("out")} == made
    codes = [read_codes(Path(name).read_bytes(), name)[0] for name in sorted(made)]
    assert not torch.equal(*codes)


def test_one_file_of_several_is_skipped_as_a_whole(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture("a.png")
    picture("b.png")
    both = [*ENCODE, "a.png", "b.png", "-o", "both.safetensors", "--skip-existing"]
    assert execute(both) == 0
    before = Path("both.safetensors").read_bytes()
    capsys.readouterr()
    assert execute(both) == 0
    assert capsys.readouterr().out == ""
    assert (found("."), Path("both.safetensors").read_bytes()) == (
        {"a.png", "b.png", "both.safetensors"},
        before,
    )


@pytest.mark.parametrize("stem", ["stdin", "{cat}", "100% {i}", "{prompt}", "a.b.c", " sp ace", "codes", "{", "-x"])
def test_names_of_inputs_are_no_templates(models: Path, stem: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture(f"./{stem}.png")
    assert execute([*ENCODE, f"./{stem}.png"]) == 0
    assert capsys.readouterr().out == f"{stem}.safetensors\n"
    for number in (2, 3):  # beside the picture itself, which is not written over
        assert execute(["decode", f"./{stem}.safetensors"]) == 0
        assert capsys.readouterr().out == f"{stem}-{number}.png\n"
    assert execute(["decode", f"./{stem}.safetensors", "-o", "out/"]) == 0
    assert execute(["decode", f"./{stem}.safetensors", "-o", "x-{prompt}.png"]) == 0
    assert found(".") >= {f"{stem}.png", f"{stem}.safetensors", f"{stem}-2.png", f"{stem}-3.png"}


def test_large_pictures_and_codes_are_refused(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("1", (5001, 5000)).save("large.png")
    Image.new("1", (20_000, 16)).save("long.png")
    assert execute([*ENCODE, "large.png"]) == 3
    assert "large.png: 5001x5000, and at most 25 megapixels" in capsys.readouterr().err
    assert execute([*ENCODE, "large.png", "--size", "64"]) == 0
    assert execute([*ENCODE, "long.png"]) == 0
    _, info = read_codes(Path("large.safetensors").read_bytes(), "large")
    metadata = {"genctl": json.dumps(info)}
    save_tensors(Path("cells.safetensors"), {"codes": torch.zeros(2, 2500, 2500)}, metadata)
    capsys.readouterr()
    assert execute(["decode", "cells.safetensors", "-o", "b.png"]) == 3
    said = capsys.readouterr().err
    assert said.startswith("genctl: cells.safetensors: 10000x10000, and at most 25 megapixels are encoded or decoded")
    assert not Path("b.png").exists()


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    out = io.BytesIO()
    Image.effect_noise((64, 64), 60).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def test_a_jpeg_of_three_thousand_scans_is_refused(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.jpg").write_bytes(scans(1))
    Path("slow.jpg").write_bytes(scans(3000))
    assert execute([*ENCODE, "a.jpg"]) == 0
    assert execute([*ENCODE, "slow.jpg"]) == 3
    assert "slow.jpg: a damaged picture (a JPEG of more than 200 scans)" in capsys.readouterr().err


PEAK = """
import resource, sys
from genctl.cli.main import execute
assert execute(["encode", sys.argv[1], "-m", "tiny-vae", "--size", "32", "-q", "-o", sys.argv[2]]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_a_folder_of_large_pictures_takes_no_more_memory_than_one(models: Path) -> None:
    picture("one/0.png", size=(1800, 1000))
    data = bytearray(Path("one/0.png").read_bytes())
    Path("many").mkdir()
    part = (3 << 19).to_bytes(4, "big") + b"tEXt" + bytes(3 << 19)  # one and a half megabytes in each file
    part += zlib.crc32(part[4:]).to_bytes(4, "big")
    for number in range(20):
        Path(f"many/{number}.png").write_bytes(data[:33] + part + data[33:])
    peaks = []
    for source in ("one", "many"):
        done = subprocess.run([sys.executable, "-c", PEAK, source, f"{source}-codes/"], capture_output=True, text=True,
                              check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    assert len(found("many-codes")) == 20
    assert peaks[1] < peaks[0] + 25  # megabytes; all files alone are 30, their pictures 108
