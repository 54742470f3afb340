"""Mutated files of every kind through the command line: each ends in a result or one clear line, quickly and in
little memory.

A child process runs all mutants; `python tests/test_fuzz.py FOLDER models=1000` does the same by hand.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

SECONDS, MEGABYTES = 10, 1000  # of the processor that a mutant may take, beside what the process had before
WAITING = 120  # seconds of the clock, for what waits and does nothing; a busy machine takes many for a few of work
NUMBERS: list[Any] = [-1, 0, 1, 2, 3, 7, 1e9, 10**9, 2**31, 2**63, 10**30, -(10**9), 1e400, float("nan"), 0.5]
ODD: list[Any] = [
    *NUMBERS,
    None,
    True,
    "",
    "x",
    "1",
    "\ud800",
    "../..",
    "/etc/passwd",
    "hf://a/b",
    [],
    [[]],
    {},
    {"a": {}},
]
EXITS = (0, 2, 3, 4, 5)


def leaves(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values within a JSON document."""
    yield where
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from leaves(one, (*where, key))


def changed(value: Any, draw: random.Random) -> Any:
    """A JSON document with one value replaced, left out or nested."""
    value = json.loads(json.dumps(value))
    *above, last = draw.choice(list(leaves(value))[1:])
    place = value
    for key in above:
        place = place[key]
    kind = draw.random()
    if kind < 0.15:
        del place[last]
    elif kind < 0.2:
        place[last] = {"deep": "DEEP"}
    elif isinstance(place[last], list) and place[last] and kind < 0.4:
        place[last] = place[last] * draw.choice([2, 50, 3000])
    else:
        place[last] = draw.choice(NUMBERS if isinstance(place[last], (int, float)) and kind < 0.8 else ODD)
    return value


def bytes_changed(data: bytes, draw: random.Random) -> bytes:
    """Bytes flipped, cut, doubled or filled in."""
    made = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8, 64])):
        at = draw.randrange(len(made))
        kind = draw.randrange(6)
        if kind == 0:
            made[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            made[at] = draw.randrange(256)
        elif kind == 2:
            del made[at : at + draw.choice([1, 4, 100])]
        elif kind == 3:
            made[at:at] = made[at : at + draw.choice([1, 4, 100])]
        elif kind == 4:
            made[at : at + 4] = draw.choice([b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", b"\0\1\0\0"])
        else:
            made = made[: draw.randrange(1, len(made) + 1)]
        if not made:
            return b"\0"
    return bytes(made)


def document_changed(data: bytes, draw: random.Random) -> bytes:
    """A safetensors file whose header says something else: in its table, or in genctl's own document."""
    length = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + length])
    if draw.random() < 0.8:
        document = json.loads(table["__metadata__"]["genctl"])
        table["__metadata__"].pop("modelspec.hash_sha256", None)
        text = json.dumps(changed(document, draw))
        table["__metadata__"]["genctl"] = text.replace('"DEEP"', "[" * 100_000 + "]" * 100_000)
    else:
        table = changed(table, draw)
    raw = json.dumps(table).encode()
    if draw.random() < 0.05:
        raw = raw.replace(b"{", b"{" * 3, 1)
    return len(raw).to_bytes(8, "little") + raw + data[8 + length :]


def mutated(data: bytes, draw: random.Random) -> bytes:
    """A safetensors file damaged in its header's document, in its header's bytes or anywhere."""
    kind = draw.random()
    if kind < 0.7:
        with contextlib.suppress(KeyError, ValueError):
            return document_changed(data, draw)
    if kind < 0.85:
        length = 8 + int.from_bytes(data[:8], "little")
        return bytes_changed(data[:length], draw) + data[length:]
    return bytes_changed(data, draw)


def pictures() -> dict[str, bytes]:
    """A small picture in every format that is read."""
    image = Image.effect_noise((37, 23), 60).convert("RGB")
    image.paste((200, 40, 90), (3, 3, 20, 15))
    made = {}
    indexed, deep = image.quantize(30), image.convert("I;16")
    forms: dict[str, tuple[str, Image.Image, dict[str, Any]]] = {
        "png": ("PNG", image, {}), "rgba.png": ("PNG", image.convert("RGBA"), {}), "p.png": ("PNG", indexed, {}),
        "jpg": ("JPEG", image, {"progressive": True}), "webp": ("WEBP", image, {}), "gif": ("GIF", indexed, {}),
        "tif": ("TIFF", image, {"compression": "tiff_lzw"}), "bmp": ("BMP", image, {}), "ppm": ("PPM", image, {}),
        "tga": ("TGA", image, {}), "16.png": ("PNG", deep, {}),
    }  # fmt: skip
    for name, (form, picture, options) in forms.items():
        out = io.BytesIO()
        picture.save(out, form, **options)
        made[name] = out.getvalue()
    return made


def of_models(folder: Path, draw: random.Random, number: int) -> list[list[str]]:
    names = ("tiny-vae", "tiny-ldm", "tiny-rf", "tiny-gan", "tiny-vq", "tiny-vq-grids", "tiny-ar", "tiny-scale")
    name = names[number % len(names)]
    target = folder / "models" / "broken.safetensors"
    target.write_bytes(mutated((folder / "models" / f"{name}.safetensors").read_bytes(), draw))
    draws = ["sample", "-m", str(target), "--seed", "1", "-o", "x.png", "-f", "-q"]
    encodes = ["encode", "a.png", "--size", "32", "-m", str(target), "-o", "x.safetensors", "-f"]
    uses = {
        "tiny-ldm": [*draws, "--steps", "1", "-p", "cat"],
        "tiny-rf": [*draws, "--steps", "1", "--class", "red"],
        "tiny-gan": [*draws, "--class", "red", "--mix", "3", "--direction", "2"],
        "tiny-ar": [*draws, "-p", "cat", "--passes", "3", "--top-k", "4"],
        "tiny-scale": draws,
    }
    return [["info", str(target)], ["models"], uses.get(name, encodes)]


def of_codes(folder: Path, draw: random.Random, number: int) -> list[list[str]]:
    Path("x.safetensors").write_bytes(mutated(Path("a.safetensors").read_bytes(), draw))
    return [["decode", "x.safetensors", "-o", "x.png", "-f"], ["info", "x.safetensors"]]


def of_pictures(folder: Path, draw: random.Random, number: int) -> list[list[str]]:
    kinds = sorted(pictures().items())
    name, data = kinds[number % len(kinds)]
    Path(f"x.{name}").write_bytes(bytes_changed(data, draw))
    return [["encode", f"x.{name}", "-m", "tiny-vae", "-o", "y.safetensors", "-f", "-q"], ["info", f"x.{name}"]]


def of_provenance(folder: Path, draw: random.Random, number: int) -> list[list[str]]:
    """A picture whose provenance says something else, drawn again."""
    from genctl.media.provenance import read_provenance

    said = read_provenance(Path("drawn.png").read_bytes())
    assert said is not None
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_itxt("genctl", json.dumps(changed(said, draw)).replace('"DEEP"', "[" * 100_000 + "]" * 100_000))
    Image.open("drawn.png").save("x.png", pnginfo=info)
    return [["sample", "--like", "x.png", "-m", "tiny-ldm", "-o", "y.png", "-f", "-q"], ["info", "x.png"]]


def of_prompts(folder: Path, draw: random.Random, number: int) -> list[list[str]]:
    lines = [{"prompt": "cat", "steps": 1, "seed": 3, "n": 1, "cfg": 2.0, "also": [["hat", 0.5]], "size": "32x48"}]
    text = json.dumps(next(iter(changed(lines, draw)), {}) if draw.random() < 0.8 else lines[0])
    data = ("cat\n" + text + "\n").encode("utf-8", "surrogatepass")
    Path("x.txt").write_bytes(bytes_changed(data, draw) if draw.random() < 0.4 else data)
    return [["sample", "-m", "tiny-ldm", "--prompts", "x.txt", "--steps", "1", "--grid", "-o", "y.png", "-f", "-q"]]


KINDS: dict[str, Callable[[Path, random.Random, int], list[list[str]]]] = {
    "models": of_models, "codes": of_codes, "pictures": of_pictures, "provenance": of_provenance, "prompts": of_prompts,
}  # fmt: skip


class TooLongError(BaseException):
    pass


def late(*_: object) -> None:
    raise TooLongError


def main(folder: Path, counts: dict[str, int]) -> int:
    """Run so many mutants of each kind; the outcomes as JSON on stdout."""
    from genctl.cli.main import execute

    os.environ["GENCTL_MODELS"] = str(folder / "models")
    os.chdir(folder)
    (folder / "a.png").write_bytes(pictures()["png"])
    draws = ["sample", "-m", "tiny-ldm", "-p", "cat", "--steps", "1", "--seed", "1", "-o", "drawn.png", "-q", "-f"]
    for ready in (["encode", "a.png", "-m", "tiny-vae", "-o", "a.safetensors", "-f"], draws):
        with contextlib.redirect_stdout(io.StringIO()):
            assert execute(ready) == 0
    signal.signal(signal.SIGALRM, late)
    signal.signal(signal.SIGPROF, late)
    outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in counts}
    bad: list[str] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kind, number in [(kind, number) for kind, count in counts.items() for number in range(count)]:
        draw = random.Random(f"{kind} {number}")
        for command in KINDS[kind](folder, draw, number):
            out, err = io.StringIO(), io.StringIO()
            signal.alarm(WAITING)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                    code: Any = execute(command)
            except TooLongError:
                code = "hang"
            except BaseException as error:
                code = f"escaped {type(error).__name__}"
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            code = "memory" if grown - before > 1000 * MEGABYTES else code
            before = max(before, grown - 1000 * MEGABYTES)
            outcomes[kind][f"{command[0]} {code}"] += 1
            said = err.getvalue().strip().splitlines()
            clear = code in EXITS and not (code and (not said or "Traceback" in err.getvalue()))
            if not clear or "\x1b" in err.getvalue() + out.getvalue():
                bad.append(f"{kind} {number}: {' '.join(command)}: {code}: {said[-1:]}")
    print(json.dumps({"outcomes": outcomes, "bad": bad}))
    return 0


def run(counts: dict[str, int], models: Path, folder: Path) -> dict[str, Any]:
    (folder / "models").mkdir()
    for model in models.glob("*.safetensors"):
        (folder / "models" / model.name).write_bytes(model.read_bytes())
    command = [sys.executable, __file__, str(folder), *(f"{kind}={count}" for kind, count in counts.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_damaged_files_end_in_a_result_or_a_clear_line(model_folder: Path, tmp_path: Path) -> None:
    counts = {"models": 45, "codes": 50, "pictures": 66, "provenance": 20, "prompts": 20}
    found = run(counts, model_folder, tmp_path)
    assert not found["bad"], found["bad"]
    for outcomes in found["outcomes"].values():
        assert any(name.endswith(" 0") for name in outcomes)  # some do no harm,
        assert any(name[-1] in "2345" for name in outcomes)  # some are refused


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_five_thousand_damaged_files(kind: str, model_folder: Path, tmp_path: Path) -> None:
    found = run({kind: 1000}, model_folder, tmp_path)
    assert not found["bad"], found["bad"]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), {kind: int(count) for kind, count in (one.split("=") for one in sys.argv[2:])}))
