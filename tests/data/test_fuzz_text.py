"""Mutated text in every place that is read: each ends in a result or in one clear error, and holds little memory."""

import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import draw_shape

from genctl.cli.jobs import Documents, line_plan, prompts_of
from genctl.data.folder import scan
from genctl.errors import GenctlError

SEEDS = {
    "metadata.jsonl": b'{"file_name": "a.png", "text": ["a ball", "x"], "tags": "p,q", "weight": 2}\n\n'
    b'{"file_name": "b.png", "text": "caf\xc3\xa9", "style": "3d", "split": "test", "codepoint": 7}\n',
    "metadata.csv": b'file_name,text,tags,weight\r\na.png,"a ball, ""red""",x,1\r\nb.png,y,"p,q",\r\n',
    "a.txt": "ein Ball\r\nnoch einer\u2028hier\n".encode(),
    "a.caption": "ein Ball\nnoch einer\n".encode("utf-16"),
    "distill.txt": b'cat\n# x\n{"prompt": "dog"}\n\na fox\n',
    "prompts.txt": b'cat\n# x\n{"prompt": "dog", "seed": 3, "n": 2, "cfg": 4}\n\n{"prompt": "a", "steps": 3}\n',
}
PIECES = [
    b"\0", b"\xff", b"\xe9", b"\xed\xa0\x80", b"\r", b"\n", b"\xe2\x80\xa8", b"\xc2\x85", b"\xef\xbb\xbf", b"\xff\xfe",
    b"\\ud800", b"null", b"true", b"1e999", b"-1", b"NaN", b"9" * 5000, b"[" * 2000, b'{"a":' * 2000, b'"', b",", b"{}",
    b"../", b"x" * 70000, b"\x1b[2J", b"\\u0000", b"[bold]",
]  # fmt: skip


def mutant(data: bytes, dice: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(made) + 1)
        end = min(len(made), place + dice.choice([0, 0, 1, 2, 8, 40]))
        kind = dice.randrange(4)
        if kind == 0:
            made[place:end] = dice.choice(PIECES)
        elif kind == 1:
            made[place:end] = b""
        elif kind == 2 and made:
            made[place % len(made)] ^= 1 << dice.randrange(8)
        else:
            made[place:end] = bytes(made[place:end]) * dice.choice([2, 3, 500])
    return bytes(made)


def read_prompts(folder: Path) -> None:
    plan, _ = line_plan(str(folder / "prompts.txt"), {"model": ["tiny-ldm"]}, 1, 1, Documents())
    json.dumps(plan.cells, ensure_ascii=False).encode()


def read_distilled(folder: Path) -> None:
    json.dumps(prompts_of(str(folder / "distill.txt")), ensure_ascii=False).encode()


def read_folder(folder: Path) -> None:
    listing = scan(folder)
    said = [[entry.captions, entry.tags, entry.style, entry.concept, entry.group] for entry in listing.entries]
    json.dumps([said, listing.summary()], ensure_ascii=False).encode()


READERS: dict[str, Callable[[Path], None]] = {"prompts.txt": read_prompts, "distill.txt": read_distilled}


def outcomes(folder: Path, count: int) -> Counter[str]:
    """What `count` mutants of each seed end in. Anything but a result or a GenctlError escapes."""
    found: Counter[str] = Counter()
    for name, data in SEEDS.items():
        dice = random.Random(name)
        place = folder / name
        place.mkdir()
        for picture in ("a.png", "b.png"):
            draw_shape("circle", "red", "plain").save(place / picture)
        read = READERS.get(name, read_folder)
        (place / name).write_bytes(data)
        read(place)
        for _ in range(count):
            (place / name).write_bytes(mutant(data, dice))
            try:
                read(place)
                found[f"{name} read"] += 1
            except GenctlError as error:
                said = str(error)
                found[f"{name} refused" if len(said) < 1000 and "\n" not in said else "a long line"] += 1
    return found


def check(folder: Path, count: int) -> None:
    tracemalloc.start()
    found = outcomes(folder, count)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(dict(found))
    assert sum(found.values()) == count * len(SEEDS)
    for name in SEEDS:
        assert found[f"{name} read"] > 0
        assert found[f"{name} refused"] > 0
    assert found["a long line"] == 0
    assert most < 100 << 20


def test_mutated_text_is_read_or_refused(models: Path, tmp_path: Path) -> None:
    check(tmp_path, 120)


@pytest.mark.slow
def test_much_mutated_text_is_read_or_refused(models: Path, tmp_path: Path) -> None:
    check(tmp_path, 1000)
