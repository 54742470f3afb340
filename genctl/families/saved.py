"""Model files: one safetensors file holds the tensors of `state_dict()` minus those that only training needs, and in
its header one JSON document `genctl` that says everything else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from genctl import config, files, hub
from genctl.errors import ModelError, UsageError
from genctl.families.base import Family
from genctl.families.registry import family_class

FORMAT = 1
MOST_FURTHER = 50_000_000  # numbers of a model that are not in its file (a critic's)


def save(model: Family, path: Path, tensors: dict[str, Tensor], document: dict[str, Any]) -> str:
    """Write a model file; returns its sha256. `document` holds what only the caller knows (training, data, figures)."""
    facts = {"format": FORMAT, "family": model.name, "can": sorted(model.can), "pixels": model.pixels.plain}
    document = facts | {"config": config.to_dict(model.config)} | model.facts() | document
    title = str(document.get("title", model.name))
    metadata: dict[str, str] = {
        "genctl": json.dumps(document, sort_keys=True, ensure_ascii=False),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"genctl/{model.name}",
        "modelspec.implementation": "genctl",
        "modelspec.title": title,
        "modelspec.resolution": str(model.pixels),
        "modelspec.hash_sha256": "0x" + files.tensors_sha256(tensors),
    }
    if "licence" in document:
        metadata["modelspec.license"] = str(document["licence"])
    return files.save_tensors(path, tensors, metadata)


def kept(model: Family, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that a model file holds: all but those that only training needs."""
    return {key: value for key, value in tensors.items() if not key.startswith(model.training_only or ("\0",))}


class skip_init(torch.overrides.TorchFunctionMode):
    """Within it, nn.init does nothing: a module about to be filled from a file is built in milliseconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))


def load(
    name: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, trusted: bool = False
) -> Family:
    """The model called `name` (shipped name, path, run folder or hub name), ready for inference. One that is `trusted`
    may name files elsewhere as its parts, and what is to be fetched.

    Raises ModelError when the file is damaged, of a newer format, or its tensors are not those its config demands.
    """
    path = hub.resolve(name)
    document, header = hub.read_document(path)
    if "part" in document:
        raise ModelError(f"{path}: is the part {document['part']!r}, not a genctl model")
    if document["format"] > FORMAT:
        raise ModelError(f"{path}: written by a newer genctl (format {document['format']}); update genctl")
    cls: type[Family] = family_class(document["family"])
    model = _empty(cls, document["config"], header, str(path))
    tensors, found = files.load_tensors(path)
    if found.metadata != header.metadata:  # a training has saved a newer one meanwhile
        return load(name, device, dtype, trusted)
    recorded = header.metadata.get("modelspec.hash_sha256")
    if recorded and recorded != "0x" + files.tensors_sha256(tensors):
        raise ModelError(f"{path}: damaged (its tensors are not those that its header was written with)")
    fill(model, tensors, str(path), dtype)
    model.info, model.file, model.sha256, model.trusted = document, path, hub.check_sha256(path), trusted
    model.weights_sha256 = hub.weights_sha256(path, header)
    model.requires_grad_(False).eval()
    return model.to(device)


def _empty(cls: type[Family], values: dict[str, Any], header: files.Header, name: str) -> Family:
    """A family made from a file's configuration, its tensors not yet filled in. The configuration is a stranger's: it
    is tried first without memory for tensors, and given up as soon as it asks for more than the file holds. Raises
    ModelError."""
    try:
        made: Any = config.build(cls.Config, values)
        with torch.device("meta"), skip_init(), bounded(len(header.tensors)):
            shape = cls(made)
        if sum(tensor.numel() for tensor in (*shape.parameters(), *shape.buffers())) > MOST_FURTHER + header.parameters:
            raise ValueError("it asks for far more numbers than the file has")
        _check_shapes(shape, header, name)
        with skip_init():
            return cls(made)
    except (UsageError, TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, MemoryError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"{name}: no model can be made of its configuration ({reason})") from None


@contextmanager
def bounded(tensors: int) -> Iterator[None]:
    """Within it, modules of many more tensors than so many cannot be made (a critic is not in the file): ValueError."""
    room = {"tensors": 2 * tensors + 200, "modules": 20 * tensors + 2000}

    def count(kind: str) -> None:
        room[kind] -= 1
        if room[kind] < 0:
            raise ValueError(f"it asks for more {kind} than the file has")

    hooks = [
        register_module_parameter_registration_hook(lambda *_: count("tensors")),
        register_module_buffer_registration_hook(lambda *_: count("tensors")),
        register_module_module_registration_hook(lambda *_: count("modules")),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _check_shapes(model: Family, header: files.Header, name: str) -> None:
    """Raise ModelError where the file's tensors are not those of the model."""
    wanted = {key: tuple(tensor.shape) for key, tensor in kept(model, model.state_dict()).items()}
    missing, extra = sorted(wanted.keys() - header.tensors.keys()), sorted(header.tensors.keys() - wanted.keys())
    if missing or extra:
        raise ModelError(f"{name}: not the tensors its config demands (missing {missing[:3]}, extra {extra[:3]})")
    for key, about in header.tensors.items():
        if about.shape != wanted[key]:
            raise ModelError(f"{name}: {key} has shape {list(about.shape)}, config wants {list(wanted[key])}")


def fill(model: Family, tensors: dict[str, Tensor], name: str, dtype: torch.dtype) -> None:
    """Put tensors into the model; missing, extra, misshapen, NaN or infinite ones are named in a ModelError."""
    wanted = kept(model, model.state_dict())
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or extra:
        raise ModelError(f"{name}: not the tensors its config demands (missing {missing[:3]}, extra {extra[:3]})")
    for key, tensor in tensors.items():
        if tensor.shape != wanted[key].shape:
            raise ModelError(f"{name}: {key} has shape {list(tensor.shape)}, config wants {list(wanted[key].shape)}")
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{name}: {key} holds NaN or infinite values; the file is damaged")
    cast = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    model.load_state_dict(cast, strict=False, assign=True)
