"""Data sets in formats of their own, unpacked once into class folders of PNGs that everything else can read.

cifar-10-binary.tar.gz      the official archive (not the pickled one): a label and 3 x 32 x 32 bytes a record
*-images-idx3-ubyte[.gz]    MNIST and its kin: a folder with images and labels of train and t10k
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from genctl.data.cache import cache_folder
from genctl.errors import InputError

FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
IDX_PARTS = {"train": "train", "t10k": "test"}
Picture = tuple[str, str, Image.Image]  # split, class, picture


def unpacked(path: Path) -> Path:
    """`path` itself, or the folder into which its archive was unpacked. Raises InputError for a broken archive."""
    if path.is_file() and path.name.endswith((".tar.gz", ".tgz")):
        return _unpack([path], _cifar(path))
    if path.is_dir():
        parts = sorted(part for part in path.iterdir() if "idx3-ubyte" in part.name or "idx1-ubyte" in part.name)
        if parts:
            return _unpack(parts, _idx(path))
    return path


def _unpack(sources: list[Path], pictures: Iterator[Picture]) -> Path:
    """All pictures as SPLIT/CLASS/NUMBER.png in the cache, under a key of the sources' bytes; whole or not at all."""
    digest = hashlib.sha256(b"fashion" if _fashion(sources[0].parent) else b"")  # the names are not in the files
    for source in sources:
        with source.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    target = cache_folder() / "unpacked" / digest.hexdigest()[:32]
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".unpack-", dir=target.parent))
    try:
        for number, (split, name, picture) in enumerate(pictures):
            if name in ("", ".", "..") or any(mark in name for mark in "/\\:\0"):
                raise InputError(f"{sources[0]}: {name!r} is no name of a class")
            folder = building / split / name
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{number:06d}.png", compress_level=1)
        os.replace(building, target)
    except (gzip.BadGzipFile, zlib.error, EOFError, struct.error, IndexError, tarfile.TarError) as error:
        raise InputError(f"{sources[0]}: cannot be unpacked ({' '.join(str(error).split())})") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _cifar(path: Path) -> Iterator[Picture]:
    """Records of the binary version: https://www.cs.toronto.edu/~kriz/cifar.html."""
    with tarfile.open(path) as archive:
        members = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}
        if "batches.meta.txt" not in members:
            raise InputError(f"{path}: not cifar-10-binary.tar.gz (no batches.meta.txt in it); give that, or a folder")
        names = _content(archive, members["batches.meta.txt"]).decode().split()
        for batch in sorted(name for name in members if name.endswith("_batch.bin") or name.startswith("data_batch_")):
            data = _content(archive, members[batch])
            if len(data) % 3073:
                raise InputError(f"{path}: {batch} is cut off ({len(data)} bytes are no number of records)")
            for start in range(0, len(data), 3073):
                planes = [Image.frombytes("L", (32, 32), data[start + 1 + i * 1024 :][:1024]) for i in range(3)]
                yield "test" if batch.startswith("test") else "train", names[data[start]], Image.merge("RGB", planes)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file else b""


def _idx(folder: Path) -> Iterator[Picture]:
    """Images and labels in the IDX format of http://yann.lecun.com/exdb/mnist."""
    names = FASHION if _fashion(folder) else tuple("0123456789")
    for part, split in IDX_PARTS.items():
        images, labels = (_find(folder, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        if images is None or labels is None:
            continue
        pixels, marks = _read(images), _read(labels)
        magic, count, height, width = struct.unpack(">IIII", pixels[:16])
        if (magic, struct.unpack(">I", marks[:4])[0]) != (0x803, 0x801) or len(pixels) != 16 + count * height * width:
            raise InputError(f"{images}: not a whole IDX file of pictures")
        for index in range(count):
            start = 16 + index * height * width
            picture = Image.frombytes("L", (width, height), pixels[start : start + height * width])
            yield split, names[marks[8 + index]], picture


def _fashion(folder: Path) -> bool:
    return "fashion" in folder.resolve().name.lower()


def _find(folder: Path, stem: str) -> Path | None:
    return next((folder / name for name in (stem, f"{stem}.gz") if (folder / name).exists()), None)


def _read(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
