"""Model files: canonical bytes, strict reading, whole writing."""

import contextlib
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from genctl import files
from genctl.errors import GenctlError, InputError, ModelError, WorldError

TENSORS = {
    "b": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "a": torch.arange(5, dtype=torch.int8),
    "c": torch.zeros(0, 2),
    "d": torch.tensor(2.0).bfloat16(),
    "e": torch.tensor([True, False]),
}


def write(path: Path) -> bytes:
    files.save_tensors(path, TENSORS, {"z": "1", "genctl": '{"family": "vae"}', "ü": "☃"})
    return path.read_bytes()


def test_same_content_same_bytes_in_any_order(tmp_path: Path) -> None:
    first = write(tmp_path / "a.safetensors")
    swapped = dict(reversed(TENSORS.items()))
    digest = files.save_tensors(
        tmp_path / "b.safetensors", swapped, {"ü": "☃", "genctl": '{"family": "vae"}', "z": "1"}
    )
    assert (tmp_path / "b.safetensors").read_bytes() == first
    assert digest == files.file_sha256(tmp_path / "b.safetensors")


def test_the_library_reads_ours(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors")
    theirs = load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(theirs[key], TENSORS[key]) for key in TENSORS)


def test_we_read_the_library(tmp_path: Path) -> None:
    pytest.importorskip("numpy", reason="the library's own writer needs numpy, which genctl does not")
    save_file({"x": TENSORS["b"]}, tmp_path / "b.safetensors", {"k": "v"})
    tensors, header = files.load_tensors(tmp_path / "b.safetensors")
    assert torch.equal(tensors["x"], TENSORS["b"])
    assert header.metadata == {"k": "v"}


def test_memory_and_disk_agree(tmp_path: Path) -> None:
    tensors, header = files.unpack_tensors(write(tmp_path / "a.safetensors"), "stdin")
    assert header.document == {"family": "vae"}
    assert all(torch.equal(tensors[key], TENSORS[key]) for key in TENSORS)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mutated_bytes_give_a_result_or_a_clean_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    good = bytearray(write(path))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    broken = bytes(good[:cut]) if data.draw(st.booleans()) else bytes(good)
    path.write_bytes(broken)
    for read in (lambda: files.load_tensors(path), lambda: files.unpack_tensors(broken, "stdin")):
        with contextlib.suppress(GenctlError):  # any other exception fails the test
            read()


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},  # bytes do not fit the shape
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},  # a hole
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}},
        {"a": {"dtype": "Q9", "shape": [1], "data_offsets": [0, 4]}},
        {"a": [1, 2]},
        {"__metadata__": {"k": 1}},
    ],
)
def test_headers_that_lie_are_refused(header: dict, tmp_path: Path) -> None:
    raw = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(8))
    with pytest.raises(ModelError, match=r"x\.safetensors"):
        files.read_header(path)


def test_a_pickle_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="pickle"):
        files.read_header(tmp_path / "model.ckpt")


def test_cut_off_stream_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cut off"):
        files.unpack_tensors(write(tmp_path / "a.safetensors")[:-1], "stdin")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    files.write_whole(path, b"old")

    def fail(file: object) -> None:
        file.write(b"half of the new")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with pytest.raises(WorldError, match="No space left"):
        files.write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_part_that_names_parts_is_read(tmp_path: Path) -> None:
    """A stranger's header: what has no configuration names nothing in it."""
    from genctl import hub

    document = json.dumps({"part": "lpips_alex", "parts": {"codec": {"name": "vae", "sha256": "0"}}})
    files.save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, {"genctl": document})
    assert hub.read_document(tmp_path / "x.safetensors")[0]["parts"]["codec"]["name"] == "vae"
