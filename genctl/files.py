"""Model and code files: safetensors with a canonical header, read strictly, written whole.

The format is the safetensors one: 8 bytes little-endian header length, a JSON header, the tensor bytes. The header is
written canonically (keys sorted, tensors by name, padded to 8 bytes), so that saving the same thing twice gives equal
bytes and the same sha256; the library's own writer orders metadata keys at random. Reading never runs code.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from genctl.errors import InputError, ModelError
from genctl.text import shown
from genctl.writing import write_whole

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER = 16 << 20  # bytes; a larger claim is a damaged or hostile file
MAX_AXES = 16  # of a tensor
ITEM_SIZE = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
TORCH_NAME = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
PICKLE_ENDINGS = (".pt", ".pth", ".ckpt", ".pkl", ".bin")


@dataclass(frozen=True)
class TensorInfo:
    """One tensor's place in a file: dtype by its safetensors name, shape, byte range after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself, read without torch and without touching the tensors."""

    metadata: dict[str, str]
    tensors: dict[str, TensorInfo]
    data_start: int  # bytes from the start of the file
    data_bytes: int

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document under `genctl`, or an empty one."""
        try:
            document = json.loads(self.metadata.get("genctl", "{}"))
        except (ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}

    @property
    def parameters(self) -> int:
        return sum(math.prod(info.shape) for info in self.tensors.values())


def parse_header(prefix: bytes, raw: bytes, name: str) -> Header:
    """The header from its 8-byte length `prefix` and its JSON bytes `raw`. Raises ModelError naming what is wrong."""
    try:
        table = json.loads(raw)
        metadata = table.pop("__metadata__", {})
        if not all(isinstance(key, str) and isinstance(value, str) for key, value in metadata.items()):
            raise ValueError("metadata that is not text")
        tensors = {key: _tensor_info(key, row) for key, row in table.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"{name}: damaged safetensors header ({error}); fetch or build the file again") from None
    end = 0
    for key, info in sorted(tensors.items(), key=lambda item: item[1].start):
        if info.start != end:
            raise ModelError(f"{name}: tensor {key!r} does not begin where the one before it ends; the file is damaged")
        end = info.end
    return Header(metadata, tensors, len(prefix) + len(raw), end)


def _tensor_info(key: str, row: dict[str, Any]) -> TensorInfo:
    dtype, shape, (start, end) = row["dtype"], tuple(row["shape"]), row["data_offsets"]
    if dtype not in ITEM_SIZE:
        raise ValueError(f"tensor {key!r} has the unknown dtype {dtype!r}")
    if len(shape) > MAX_AXES or not all(type(size) is int and 0 <= size < 1 << 40 for size in (*shape, start, end)):
        raise ValueError(f"tensor {key!r} has an impossible shape or offset")
    if end - start != math.prod(shape) * ITEM_SIZE[dtype]:
        raise ValueError(f"tensor {key!r} has {end - start} bytes for shape {list(shape)} {dtype}")
    return TensorInfo(dtype, shape, start, end)


def header_length(prefix: bytes, name: str) -> int:
    """The header's length from a file's first 8 bytes, refused when it cannot be one."""
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or not 2 <= length <= MAX_HEADER:
        raise ModelError(f"{name}: not a safetensors file (first bytes {prefix[:8]!r})")
    return length


def read_header(path: Path) -> Header:
    """The header of the file at `path`, without torch. Raises ModelError for anything but a whole safetensors file."""
    if path.suffix in PICKLE_ENDINGS:
        raise ModelError(f"{path}: a pickle, which can run code and is never read; convert it to .safetensors first")
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            raw = file.read(header_length(prefix, str(path)))
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    header = parse_header(prefix, raw, str(path))
    if size != header.data_start + header.data_bytes:
        wanted = header.data_start + header.data_bytes
        raise ModelError(f"{path}: has {size} bytes where its header says {wanted}; the file is cut off or damaged")
    return header


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Header]:
    """All tensors of a file (CPU, as stored, memory-mapped) and its header. Raises ModelError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    header = read_header(path)
    try:
        if shown(path) != str(path):  # the library opens names that are UTF-8 only
            return unpack_tensors(path.read_bytes(), shown(path))
        return load_file(path), header
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: damaged safetensors file ({error})") from None


def unpack_tensors(data: bytes, name: str) -> tuple[dict[str, Tensor], Header]:
    """Tensors and header of a safetensors document in memory (as from a pipe). Raises InputError."""
    import torch

    try:
        length = header_length(data[:8], name)
        header = parse_header(data[:8], data[8 : 8 + length], name)
    except ModelError as error:
        raise InputError(str(error)) from None
    body = bytearray(data[header.data_start :])
    if len(body) != header.data_bytes:
        raise InputError(f"{name}: cut off: {len(body)} of {header.data_bytes} bytes of tensors")
    tensors = {}
    for key, info in header.tensors.items():
        dtype = getattr(torch, TORCH_NAME[info.dtype])
        count = math.prod(info.shape)
        flat = (
            torch.frombuffer(body, dtype=dtype, count=count, offset=info.start)
            if count
            else torch.empty(0, dtype=dtype)
        )
        tensors[key] = flat.reshape(info.shape).clone()
    return tensors, header


def pack_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[bytes, list[Tensor]]:
    """The canonical header bytes (length prefix included) and the tensors in file order."""
    names = {value: key for key, value in TORCH_NAME.items()}
    table: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    ordered, offset = [], 0
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        size = tensor.numel() * tensor.element_size()
        dtype = names[str(tensor.dtype).removeprefix("torch.")]
        table[key] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        ordered.append(tensor)
        offset += size
    raw = json.dumps(table, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw, ordered


def tensor_bytes(tensor: Tensor) -> bytes:
    """The raw little-endian bytes of a contiguous CPU tensor (works without numpy)."""
    return ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size()) if tensor.numel() else b""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write a canonical safetensors file whole (old or new, never part); returns its sha256."""
    prefix, ordered = pack_tensors(tensors, metadata)
    digest = hashlib.sha256(prefix)

    def write(file: IO[bytes]) -> None:
        file.write(prefix)
        for tensor in ordered:
            data = tensor_bytes(tensor)
            digest.update(data)
            file.write(data)

    write_whole(path, write)
    return digest.hexdigest()


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of the tensor bytes alone, in file (name) order: what modelspec's `hash_sha256` records."""
    digest = hashlib.sha256()
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor_bytes(tensor.detach().cpu().contiguous()))
    return digest.hexdigest()


def check_tensors(path: Path, header: Header) -> None:
    """Raise ModelError where the tensor bytes are not those whose hash the header records. Needs no torch."""
    recorded = header.metadata.get("modelspec.hash_sha256")
    if recorded is None:
        return
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for _, info in sorted(header.tensors.items()):
            file.seek(header.data_start + info.start)
            digest.update(file.read(info.end - info.start))
    if recorded != "0x" + digest.hexdigest():
        raise ModelError(f"{path}: damaged (its tensors are not those that its header was written with)")


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
