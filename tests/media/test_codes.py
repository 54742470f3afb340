"""Code documents: exact round trips; everything else is refused by what it is."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import torch
from safetensors.torch import load

from genctl.errors import GenctlError, InputError
from genctl.files import pack_tensors, tensor_bytes
from genctl.media.codes import pack_codes, read_codes

INFO = {"model": "vae", "sha256": "ab" * 32, "pixels": [128, 96], "axes": "channels, height, width"}


def document(tensors: dict[str, torch.Tensor], **info: Any) -> bytes:
    prefix, ordered = pack_tensors(tensors, {"genctl": json.dumps(info)})
    return prefix + b"".join(map(tensor_bytes, ordered))


def codes(**info: Any) -> bytes:
    return document({"codes": torch.ones(4, 2, 2)}, **({"format": 1, "kind": "codes"} | info))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8])
def test_round_trip_is_exact(dtype: torch.dtype) -> None:
    tensor = (torch.randn(4, 8, 6) * 50).to(dtype)
    read, info = read_codes(pack_codes(tensor, INFO), "a")
    assert read.dtype == dtype
    assert torch.equal(read, tensor)
    assert info == INFO | {"format": 1, "kind": "codes"}


def test_others_can_read_it_and_the_bytes_are_the_same_each_time() -> None:
    tensor = torch.randn(4, 3, 5).transpose(1, 2)  # not contiguous
    data = pack_codes(tensor, INFO)
    assert torch.equal(load(data)["codes"], tensor)
    assert data == pack_codes(tensor.contiguous(), dict(reversed(INFO.items())))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    tensor = torch.zeros(4, 2, 2)
    tensor[1, 1, 0] = value
    with pytest.raises(InputError, match=r"^a: the codes hold NaN or infinite"):
        read_codes(pack_codes(tensor, INFO), "a")


@pytest.mark.parametrize(("data", "words"), [
    (document({"net.weight": torch.ones(2)}, family="ldm"), "a ldm model; give codes written by `genctl encode`"),
    (document({"w": torch.ones(2)}), "a safetensors file, but not codes"),
    (document({"codes": torch.ones(2), "more": torch.ones(1)}, format=1, kind="codes"), "but not codes"),
    (codes(format=2), "codes of format 2, here 1"), (codes(pixels=[0, 5]), "pixels"), (codes(pixels="big"), "pixels"),
    (codes(pixels=[True, 5]), "pixels"), (codes(pixels=[1 << 20, 5]), "pixels"),
    (codes(model=["x"]), "model is not text"),
    (codes(sha256=3), "sha256 is not text"), (codes()[:-1], "cut off"), (codes() + b"x", "cut off|bytes"),
    (b"", "not a safetensors file"), (b"\x89PNG\r\n\x1a\n" + bytes(40), "not a safetensors file"),
    (document({"codes": torch.ones(())}, format=1, kind="codes"), "which no picture has"),
    (document({"codes": torch.ones(3, 0)}, format=1, kind="codes"), "which no picture has"),
])  # fmt: skip
def test_anything_else_is_named(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_codes(data, "a")


def header(text: str, body: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text.encode() + body


@pytest.mark.parametrize("text", [
    json.dumps({"__metadata__": {"genctl": "[" * 100_000}}), '{"a":' * 50_000, "[]", "{}", "null",
    '{"__metadata__": 3}',
    '{"codes": {"dtype": "F32", "shape": [0, 1099511627775, 1099511627775], "data_offsets": [0, 0]}, '
    '"__metadata__": {"genctl": "{\\"kind\\": \\"codes\\", \\"format\\": 1}"}}',
])  # fmt: skip
def test_hostile_headers_give_a_clean_error(text: str) -> None:
    with pytest.raises(InputError):
        read_codes(header(text), "a")


def test_an_unaligned_tensor_is_read_or_refused() -> None:
    text = '{"__metadata__":{"genctl":"{\\"kind\\":\\"codes\\",\\"format\\":1}"},'
    text += '"codes":{"dtype":"F32","shape":[1,1,2],"data_offsets":[0,8]}}'
    for pad in range(4):
        read, _ = read_codes(header(text + " " * pad, tensor_bytes(torch.tensor([1.0, 2.0]))), "a")
        assert read.tolist() == [[[1.0, 2.0]]]


def test_mutations_give_codes_or_a_clean_error() -> None:
    data, luck = pack_codes(torch.randn(4, 2, 2), INFO), random.Random(0)
    refused = []
    for _ in range(600):
        broken = bytearray(data)
        for _ in range(luck.randrange(1, 4)):
            broken[luck.randrange(len(broken))] = luck.choice((luck.randrange(256), *b'0189[]{}",:'))
        try:
            read_codes(bytes(broken[: luck.choice((len(data), luck.randrange(len(data))))]), "a")
        except GenctlError as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert not any("\n" in line for line in refused)
