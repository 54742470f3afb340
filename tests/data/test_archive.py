"""Archives of data sets, on small ones made in their formats."""

import gzip
import io
import os
import random
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from helpers import draw_shape

from genctl.data import packed as packed_files
from genctl.data.archive import unpacked
from genctl.data.cache import cache_folder
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


# pictures, packed ----------------------------------------------------------------------------------------------------
def shape() -> bytes:
    file = io.BytesIO()
    draw_shape("circle", "red", "plain").save(file, "PNG")
    return file.getvalue()


def pack(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w:" + path.suffix.lstrip(".").removeprefix("tar").replace("tgz", "gz")) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


ENDINGS = ["x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.tar.bz2", "x.tar.xz", "X.ZIP"]


@pytest.mark.parametrize("name", ENDINGS)
def test_an_archive_is_read_as_the_folder_in_it(name: str, tmp_path: Path) -> None:
    packed = pack(tmp_path / name.lower(), {
        "x/metadata.jsonl": b'{"file_name": "a.png", "text": "ball"}\n', "x/a.png": shape(), "x/b.png": shape(),
        "x/ATTRIBUTION.md": "für alle".encode("latin-1"), "__MACOSX/x/._a.png": b"", "x/y.svg": b"<svg/>",
    }).rename(tmp_path / name)  # fmt: skip
    for _ in range(2):  # from the archive, and from the cache
        pictures = load(packed, 32, DataConfig())
        assert [entry.captions for entry in pictures.entries] == [("ball",)]
        assert pictures.summary == ("1 picture, captions from metadata.jsonl, 1 picture not named in metadata.jsonl "
                                    "(b.png), 1 .svg not read (y.svg)")  # fmt: skip
        assert pictures.attribution == "für alle"


def test_class_folders_links_and_odd_names_in_archives(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name, data in (("set/cat/a.png", shape()), (os.fsdecode(b"set/caf\xe9/b.png"), shape())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, kind, to in (("set/dog/c.png", tarfile.SYMTYPE, "../cat/a.png"),
                               ("set/dog/d.png", tarfile.LNKTYPE, "set/cat/a.png")):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, to
            archive.addfile(info)
    entries = load(tmp_path / "a.tar.gz", 32, DataConfig()).entries
    assert [entry.concept for entry in entries] == ["café", "cat", "dog", "dog"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("Test\\naïve\\a.png", shape())
        packed.writestr("b.png", shape())
    assert {(e.concept, e.held_out) for e in load(tmp_path / "a.zip", 32, DataConfig()).entries} == {
        ("naïve", True), ("", False)}  # fmt: skip


AWAY = ["../a.png", "/tmp/genctl-out/a.png", "x/../../a.png", "C:/a.png", "..\\a.png", "x" * 300 + ".png"]


@pytest.mark.parametrize("name", AWAY)
def test_packed_pictures_cannot_write_elsewhere(name: str, tmp_path: Path) -> None:
    for archive in ("a.zip", "a.tar"):
        with pytest.raises(InputError, match=rf"{archive}: .* in it is no name of a file within"):
            unpacked(pack(tmp_path / archive, {name: shape(), "b.png": shape()}))
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        info = tarfile.TarInfo("a.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(InputError, match=r"link\.tar: cannot be unpacked"):
        unpacked(tmp_path / "link.tar")
    assert not list((cache_folder() / "unpacked").glob(".unpack-*"))


def test_archives_without_pictures_broken_or_locked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.zip: no pictures in it \(found a\.txt\)"):
        unpacked(pack(tmp_path / "a.zip", {"a.txt": b"x"}))
    data = pack(tmp_path / "b.zip", {"a.png": shape(), "b.png": shape()}).read_bytes()
    for broken in (b"", b"PK", data[:-30], data[: len(data) // 2]):
        (tmp_path / "c.zip").write_bytes(broken)
        with pytest.raises(InputError, match=r"c\.zip: cannot be unpacked"):
            unpacked(tmp_path / "c.zip")
    locked = bytearray(data)
    locked[6] |= 1
    locked[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "d.zip").write_bytes(locked)
    with pytest.raises(InputError, match=r"d\.zip: cannot be unpacked \(.*encrypted"):
        unpacked(tmp_path / "d.zip")


def test_a_bomb_is_refused_without_holding_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_files, "ALWAYS", 1 << 20)
    for name in ("a.zip", "a.tar.gz"):
        with pytest.raises(InputError, match=rf"{name}: unpacks to more than 1 MiB"):
            unpacked(pack(tmp_path / name, {"a.png": bytes(3 << 20)}))
    folder = tmp_path / "idx"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(struct.pack(">IIII", 0x803, 1 << 31, 28, 28)))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">II", 0x801, 1 << 31)))
    with pytest.raises(InputError, match="not a whole IDX file"):
        unpacked(folder)


def test_a_flipped_bit_never_gives_other_pictures(tmp_path: Path) -> None:
    """The checksum stands at the end of the stream, behind all that a reader of tar looks at."""
    cifar(tmp_path / "good.tar.gz")
    packed_idx = idx(tmp_path / "good")
    wanted = {kind: contents(unpacked(tmp_path / name)) for kind, name in (("cifar", "good.tar.gz"), ("idx", "good"))}
    refused: list[bool] = []
    for index in range(60):
        kind = ("cifar", "idx")[index % 2]
        data = bytearray((tmp_path / "good.tar.gz").read_bytes() if kind == "cifar" else packed_idx.read_bytes())
        data[index * 7919 % len(data)] ^= 1 << index % 8
        (tmp_path / "bad").mkdir(exist_ok=True)
        path = tmp_path / "bad.tar.gz" if kind == "cifar" else idx(tmp_path / "bad")
        path.write_bytes(data)
        try:
            assert contents(unpacked(path if kind == "cifar" else tmp_path / "bad")) == wanted[kind]  # an unused bit
        except InputError as error:
            refused.append(str(path) in str(error))  # and not the cache
    assert all(refused)
    assert len(refused) > 50


def idx(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    pixels = random.Random(0).randbytes(40 * 64)
    (folder / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 40) + bytes(i % 10 for i in range(40)))
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(struct.pack(">IIII", 0x803, 40, 8, 8) + pixels))
    return folder / "train-images-idx3-ubyte.gz"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.png")}


def test_of_two_commands_at_once_both_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each finds the folder missing, makes its own, and one is the first to give it its name."""
    packed = pack(tmp_path / "both.zip", {"cat/a.png": shape(), "dog/b.png": shape()})
    replace = os.replace

    def slower(source: Path, target: Path) -> None:
        shutil.copytree(source, target)
        replace(source, target)  # which raises, since the other's is there

    monkeypatch.setattr(os, "replace", slower)
    found = unpacked(packed)
    assert len(contents(found)) == 2
    assert not list(found.parent.glob(".unpack-*"))


def test_what_is_wrong_names_the_archive(tmp_path: Path) -> None:
    said: list[str] = []
    packed = pack(tmp_path / "a.zip", {"a.png": shape(), "b.png": shape(), "c.png": shape()[:50]})
    load(packed, 32, DataConfig(), said.append)
    assert said == [f"left out: {packed}/c.png: cut off within the PNG"]
    with pytest.raises(InputError, match=r"^[^ ]*b\.zip/metadata\.jsonl: line 2 "):
        load(pack(tmp_path / "b.zip", {"metadata.jsonl": b"\n[]", "a.png": shape()}), 32, DataConfig())


def test_classes_of_an_archive_are_text(tmp_path: Path) -> None:
    for names, said in (
        (b"caf\xe9\n", "batches.meta.txt: line 1: not UTF-8"), (b"x" * (1 << 21), "longer than"),
        (b"", r"picture 1 of data_batch_1\.bin has label 0; there are 0"),
    ):  # fmt: skip
        data = pack(tmp_path / "a.tar.gz", {"batches.meta.txt": names, "data_batch_1.bin": bytes(3073)})
        with pytest.raises(InputError, match=rf"a\.tar\.gz: .*{said}"):
            unpacked(data)
    sparse = tarfile.TarInfo("data_batch_1.bin")
    sparse.size = 3073 * 10**12
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        meta = tarfile.TarInfo("batches.meta.txt")
        meta.size = 1
        archive.addfile(meta, io.BytesIO(b"x"))
        archive.addfile(sparse)
    with pytest.raises(InputError, match=r"b\.tar: "):
        unpacked(tmp_path / "b.tar")


def test_what_a_killed_command_left_is_removed(tmp_path: Path) -> None:
    folder = cache_folder() / "unpacked"
    (folder / ".unpack-old/x").mkdir(parents=True)
    (folder / ".unpack-now").mkdir()
    os.utime(folder / ".unpack-old", (1, 1))
    unpacked(pack(tmp_path / "left.zip", {"a.png": shape(), "left.txt": b"x"}))
    assert [path.name for path in folder.glob(".unpack-*")] == [".unpack-now"]
    (folder / ".unpack-now").rmdir()
