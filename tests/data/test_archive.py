"""Archives of data sets, on small ones made in their formats."""

import gzip
import io
import struct
import tarfile
from pathlib import Path

import pytest
import torch

from genctl.data.archive import unpacked
from genctl.data.folder import scan
from genctl.data.pictures import DataConfig, load
from genctl.errors import InputError

NAMES = ("airplane", "automobile", "bird")


def cifar(path: Path, cut: int = 0) -> torch.Tensor:
    """Two training batches of four and a test batch of two, each record with its own noise; returns all pixels."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (10, 3, 32, 32), dtype=torch.uint8)
    records = [bytes([index % 3]) + bytes(pixels[index].flatten().tolist()) for index in range(10)]
    batches = {"data_batch_1.bin": records[:4], "data_batch_2.bin": records[4:8], "test_batch.bin": records[8:]}
    content = {name: b"".join(rows) for name, rows in batches.items()} | {"batches.meta.txt": "\n".join(NAMES).encode()}
    with tarfile.open(path, "w:gz") as archive:
        for name, data in content.items():
            data = data[: len(data) - cut] if name == "test_batch.bin" else data
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return pixels


def test_cifar_10(tmp_path: Path) -> None:
    pixels = cifar(tmp_path / "cifar-10-binary.tar.gz")
    pictures = load(tmp_path / "cifar-10-binary.tar.gz", 32, DataConfig())
    assert len(pictures.split(False)) == 8
    assert len(pictures.split(True)) == 2
    assert {entry.concept for entry in pictures.entries} == set(NAMES)
    for entry, made in zip(pictures.entries, pictures.pixels, strict=True):
        number = int(entry.file.stem)
        assert torch.equal(made, pixels[number])
        assert entry.concept == NAMES[number % 3]
        assert entry.held_out == (number >= 8)
    assert unpacked(tmp_path / "cifar-10-binary.tar.gz") == unpacked(tmp_path / "cifar-10-binary.tar.gz")


def test_idx(tmp_path: Path) -> None:
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    pixels = torch.randint(0, 256, (6, 28, 28), dtype=torch.uint8)
    for part, rows in (("train", pixels[:4]), ("t10k", pixels[4:])):
        images = struct.pack(">IIII", 0x803, len(rows), 28, 28) + bytes(rows.flatten().tolist())
        labels = struct.pack(">II", 0x801, len(rows)) + bytes(range(len(rows)))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    listing = scan(unpacked(folder))
    assert [(e.concept, e.captions, e.held_out) for e in listing.entries][:2] == [
        ("t-shirt", ("t shirt",), True),
        ("trouser", ("trouser",), True),
    ]
    assert len(listing.entries) == 6
    pictures = load(folder, 28, DataConfig())
    for entry, made in zip(pictures.entries, pictures.pixels, strict=True):
        assert torch.equal(made, pixels[int(entry.file.stem)].expand(3, 28, 28))


def test_broken_archives(tmp_path: Path) -> None:
    cifar(tmp_path / "cut.tar.gz", cut=5)
    with pytest.raises(InputError, match=r"test_batch.bin is cut off \(6141 bytes"):
        unpacked(tmp_path / "cut.tar.gz")
    (tmp_path / "other.tar.gz").write_bytes(b"hello")
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpacked(tmp_path / "other.tar.gz")
    with tarfile.open(tmp_path / "foreign.tgz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    with pytest.raises(InputError, match=r"not cifar-10-binary.tar.gz"):
        unpacked(tmp_path / "foreign.tgz")
    (tmp_path / "idx").mkdir()
    for name, data in (
        ("train-images-idx3-ubyte", struct.pack(">IIII", 0x803, 9, 28, 28)),
        ("train-labels-idx1-ubyte", b""),
    ):
        (tmp_path / "idx" / name).write_bytes(data)
    with pytest.raises(InputError):
        unpacked(tmp_path / "idx")


def test_an_archive_cannot_write_elsewhere(tmp_path: Path) -> None:
    for name in ("../../out", "/tmp/genctl-out", ".."):
        with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as archive:
            for member, data in (("batches.meta.txt", name.encode()), ("data_batch_1.bin", bytes(3073))):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        with pytest.raises(InputError, match="is no name of a class"):
            unpacked(tmp_path / "evil.tar.gz")


def test_labels_beyond_the_names_are_an_error_of_the_input(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 1, 2, 2) + bytes(4))
    (folder / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 1) + bytes([44]))
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpacked(folder)


def test_the_same_bytes_in_a_fashion_folder_have_other_names(tmp_path: Path) -> None:
    for name, wanted in (("digits", "1"), ("my-fashion", "trouser")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 1, 2, 2) + bytes(4))
        (tmp_path / name / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 1) + bytes([1]))
        assert [entry.concept for entry in scan(unpacked(tmp_path / name)).entries] == [wanted]
