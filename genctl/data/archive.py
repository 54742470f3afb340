"""Data sets in one file or in formats of their own, unpacked once into folders that everything else can read.

*.zip, *.tar[.gz|.bz2|.xz]  pictures, as in a folder (packed.py)
cifar-10-binary.tar.gz      the official archive (not the pickled one): a label and 3 x 32 x 32 bytes a record
*-images-idx3-ubyte[.gz]    MNIST and its kin: a folder with images and labels of train and t10k
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import lzma
import os
import shutil
import struct
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from PIL import Image

from genctl.data import packed
from genctl.data.cache import cache_folder
from genctl.errors import InputError
from genctl.media.formats import ENDINGS
from genctl.text import Lines, cut, short, shown

FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
IDX_PARTS = {"train": "train", "t10k": "test"}
MOST_IDX = 1 << 30  # bytes of the pictures of one IDX file
MOST_SIDE = 1024  # of them, in pixels
RECORD = 1 + 3 * 32 * 32
META = "batches.meta.txt"  # by which CIFAR-10 is known
ABANDONED = 24 * 3600  # seconds after which an unfinished folder is taken for a killed command's
BROKEN = (
    EOFError, IndexError, KeyError, NotImplementedError, RuntimeError, ValueError, OverflowError, lzma.LZMAError,
    struct.error, tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip  # what readers of archives raise; RuntimeError for an encrypted one, and for headers nested too deeply
BAD_NAMES = (None, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
Picture = tuple[str, str, Image.Image]  # split, class, picture


def unpacked(path: Path, endings: tuple[str, ...] = ENDINGS) -> Path:
    """`path` itself, or the folder into which its archive was unpacked, of files with these `endings`. Raises
    InputError for a broken archive."""
    if path.is_file() and packed.is_zip(path):
        return _unpack([path], lambda folder, _: _zip(path, folder, endings), endings)
    if path.is_file() and packed.is_tar(path):
        return _unpack([path], lambda folder, spare: _tar(path, folder, spare, endings), endings)
    if path.is_dir():
        parts = sorted(part for part in path.iterdir() if "idx3-ubyte" in part.name or "idx1-ubyte" in part.name)
        if parts:
            return _unpack(parts, lambda folder, _: _save(parts[0], _idx(path), folder))
    return path


def _unpack(
    sources: list[Path], write: Callable[[Path, Path], None], endings: tuple[str, ...] = ENDINGS
) -> Path:  # fmt: skip
    """The folder in the cache, under a key of the sources' bytes, that `write` fills; whole or not at all. It gets that
    folder and one for what is needed meanwhile. Of two commands at once both make it, and one is kept."""
    digest = hashlib.sha256(b"2 fashion" if _fashion(sources[0].parent) else b"2")  # names are not in the files
    digest.update(b"" if endings == ENDINGS else " ".join(endings).encode())
    for source in sources:
        if len(sources) > 1:
            digest.update(f"{source.name}\n".encode("utf-8", "surrogateescape"))  # which is which, and what is held out
        with source.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    target = cache_folder() / "unpacked" / digest.hexdigest()[:32]
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target.parent)
    building, spare = (Path(tempfile.mkdtemp(prefix=".unpack-", dir=target.parent)) for _ in range(2))
    try:
        write(building, spare)
        os.replace(building, target)
    except (*BROKEN, OSError) as error:
        if isinstance(error, OSError) and target.is_dir():
            return target  # another command was faster
        if isinstance(error, OSError) and error.errno not in BAD_NAMES:
            raise
        reason = cut(" ".join(str(error).split()), 200) or type(error).__name__
        raise InputError(f"{shown(sources[0])}: cannot be unpacked ({reason})") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(spare, ignore_errors=True)
    return target


def _remove_abandoned(folder: Path) -> None:
    for left in folder.glob(".unpack-*"):
        with contextlib.suppress(OSError):  # another command may have been faster
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


def _zip(path: Path, folder: Path, endings: tuple[str, ...]) -> None:
    with zipfile.ZipFile(path) as archive:
        packed.unpack(path, archive, folder, endings)


def _tar(path: Path, folder: Path, spare: Path, endings: tuple[str, ...]) -> None:
    """CIFAR-10, or pictures."""
    with tarfile.open(packed.plain_tar(path, spare), "r:") as archive:
        if any(Path(member.name).name == META for member in archive):
            _save(path, _cifar(path, archive), folder)
        else:
            packed.unpack(path, archive, folder, endings)


def _save(source: Path, pictures: Iterator[Picture], folder: Path) -> None:
    """All pictures as SPLIT/CLASS/NUMBER.png."""
    for number, (split, name, picture) in enumerate(pictures):
        if not name or name.startswith(".") or any(mark in name for mark in "/\\:\0") or len(name.encode()) > 200:
            raise InputError(f"{shown(source)}: {short(name)} is no name of a class")
        place = folder / split / name
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{number:06d}.png", compress_level=1)


def _cifar(path: Path, archive: tarfile.TarFile) -> Iterator[Picture]:
    """Records of the binary version: https://www.cs.toronto.edu/~kriz/cifar.html."""
    members = {
        Path(member.name).name: member for member in archive.getmembers() if member.isfile() and not member.sparse
    }
    with archive.extractfile(members[META]) or io.BytesIO() as file:
        names = [line.strip() for _, line in Lines(file, f"{shown(path)}: {META}") if line.strip()]
    for batch in sorted(name for name in members if name.endswith("_batch.bin") or name.startswith("data_batch_")):
        size = members[batch].size
        if size % RECORD or size > MOST_IDX:
            raise InputError(f"{shown(path)}: {batch} is cut off ({size} bytes are no number of records)")
        with archive.extractfile(members[batch]) or io.BytesIO() as file:
            for number in range(size // RECORD):
                data = _exactly(file, RECORD)
                planes = [Image.frombytes("L", (32, 32), data[1 + i * 1024 :][:1024]) for i in range(3)]
                name = _named(names, data[0], f"picture {number + 1} of {batch}")
                yield "test" if batch.startswith("test") else "train", name, Image.merge("RGB", planes)


def _named(names: list[str] | tuple[str, ...], label: int, which: str) -> str:
    """A label's name. Raises ValueError that says which picture has one that is not there."""
    if label >= len(names):
        raise ValueError(f"{which} has label {label}; there are {len(names)} classes")
    return names[label]


def _idx(folder: Path) -> Iterator[Picture]:
    """Images and labels in the IDX format of http://yann.lecun.com/exdb/mnist."""
    names = FASHION if _fashion(folder) else tuple("0123456789")
    found = [(split, _find(folder, f"{part}-images-idx3"), _find(folder, f"{part}-labels-idx1"))
             for part, split in IDX_PARTS.items()]  # fmt: skip
    if not any(images and labels for _, images, labels in found):
        raise InputError(f"{shown(folder)}: no train-images-idx3-ubyte with its train-labels-idx1-ubyte, nor t10k")
    for split, images, labels in found:
        if images is None and labels is None:
            continue
        if images is None or labels is None:
            raise InputError(
                f"{shown(images or labels or folder)}: images and labels go together, the other is missing"
            )
        with _open(images) as pixels, _open(labels) as marks:
            magic, count, height, width = struct.unpack(">IIII", _exactly(pixels, 16))
            sizes = 0 < height <= MOST_SIDE and 0 < width <= MOST_SIDE and count * height * width <= MOST_IDX
            if magic != 0x803 or not sizes or struct.unpack(">II", _exactly(marks, 8)) != (0x801, count):
                raise InputError(f"{shown(images)}: not a whole IDX file of pictures, with as many labels")
            for number in range(count):
                picture = Image.frombytes("L", (width, height), _exactly(pixels, height * width))
                yield split, _named(names, _exactly(marks, 1)[0], f"picture {number + 1}"), picture
            if pixels.read(1) or marks.read(1):  # also looks at the checksums
                raise InputError(f"{shown(images)}: not a whole IDX file of pictures, with as many labels")


def _exactly(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError("it ends within a record")
    return data


def _fashion(folder: Path) -> bool:
    return "fashion" in folder.resolve().name.lower()


def _find(folder: Path, stem: str) -> Path | None:
    return next((folder / name for name in (f"{stem}-ubyte", f"{stem}-ubyte.gz") if (folder / name).exists()), None)


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
