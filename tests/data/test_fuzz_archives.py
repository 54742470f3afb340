"""Mutated archives end in a folder or in one clear error, hold little memory, write nothing beside the cache's folder
and leave nothing unfinished in it."""

import gzip
import random
import struct
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from test_archive import cifar, pack, shape

from genctl.data.archive import unpacked
from genctl.data.cache import cache_folder
from genctl.errors import GenctlError


def seeds(folder: Path) -> dict[str, bytes]:
    """Small archives of each kind; `plain` ones without the checksums that would hide what stands behind them."""
    folder.mkdir()
    files = {
        "set/cat/a.png": shape(),
        "set/cat/a.txt": b"a ball",
        "set/b.svg": b"<svg/>",
        "set/metadata.csv": b"file_name\n",
    }
    cifar(folder / "cifar.tar.gz")
    made = {name: pack(folder / name, files).read_bytes() for name in ("a.zip", "a.tar", "a.tar.gz", "a.tar.xz")}
    made |= {"cifar.tar.gz": (folder / "cifar.tar.gz").read_bytes()}
    made |= {"cifar.tar": gzip.decompress(made["cifar.tar.gz"])}
    images = struct.pack(">IIII", 0x803, 5, 8, 8) + bytes(5 * 64)
    return made | {"train-images-idx3-ubyte": images, "train-images-idx3-ubyte.gz": gzip.compress(images)}


def mutant(data: bytes, dice: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(dice.randint(1, 3)):
        place = (
            dice.randrange(len(made))
            if dice.random() < 0.3
            else dice.randrange(min(len(made), 700)) * dice.choice([1, -1])
        )
        kind = dice.randrange(4)
        if kind == 0:
            made[place] ^= 1 << dice.randrange(8)
        elif kind == 1:
            del made[max(0, len(made) - dice.randrange(1, 200)) :]
        elif kind == 2:
            made[place : place + 4 if place >= 0 else None] = dice.choice(
                [b"\xff" * 4, b"\0" * 4, b"7777", b"../.", b"\x80\0\0\1"]
            )
        else:
            made[place:place] = bytes(dice.randrange(1, 20))
        made = made or bytearray(b"x")
    return bytes(made)


def check(folder: Path, count: int) -> None:
    tracemalloc.start()
    found: Counter[str] = Counter()
    for name, data in seeds(folder / "seeds").items():
        dice, place = random.Random(name), folder / f"of-{name}"
        place.mkdir()
        (place / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 5) + bytes(range(5)))
        for _ in range(count):
            (place / name).write_bytes(mutant(data, dice))
            try:
                made = unpacked(place if "idx" in name else place / name)
                found[f"{name} {made.parent == cache_folder() / 'unpacked'}"] += 1
            except GenctlError as error:
                found[f"{name} {'refused' if str(place) in str(error) and len(str(error)) < 900 else error}"] += 1
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(dict(found))
    assert {outcome.split(" ", 1)[1] for outcome in found} == {"True", "refused"}
    assert not list((cache_folder() / "unpacked").glob(".unpack-*"))
    assert {path.name.split("-")[0] for path in folder.iterdir()} == {"seeds", "of"}
    assert most < 100 << 20


def test_mutated_archives_are_read_or_refused(tmp_path: Path) -> None:
    check(tmp_path, 40)


@pytest.mark.slow
def test_many_mutated_archives_are_read_or_refused(tmp_path: Path) -> None:
    check(tmp_path, 600)
