"""Model files: one safetensors file holds the tensors of `state_dict()` minus those that only training needs, and in
its header one JSON document `genctl` that says everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genctl import config, files, hub
from genctl.errors import ModelError, UsageError
from genctl.families.base import Family
from genctl.families.registry import family_class

FORMAT = 1


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


def load(name: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Family:
    """The model called `name` (shipped name, path, run folder or hub name), ready for inference.

    Raises ModelError when the file is damaged, of a newer format, or its tensors are not those its config demands.
    """
    path = hub.resolve(name)
    tensors, header = files.load_tensors(path)
    document = header.document
    if not isinstance(document.get("format", 0), int) or not isinstance(document.get("family", ""), str):
        raise ModelError(f"{path}: its header is not one that genctl writes")
    if document.get("format", 0) > FORMAT:
        raise ModelError(f"{path}: written by a newer genctl (format {document['format']}); update genctl")
    recorded = header.metadata.get("modelspec.hash_sha256")
    if recorded and recorded != "0x" + files.tensors_sha256(tensors):
        raise ModelError(f"{path}: damaged (its tensors are not those that its header was written with)")
    if "family" not in document:
        what = f"the part {document['part']!r}" if "part" in document else "a safetensors file of another tool"
        raise ModelError(f"{path}: is {what}, not a genctl model")
    cls: type[Family] = family_class(document["family"])
    try:
        model_config: Any = config.build(cls.Config, dict(document.get("config") or {}))
        with skip_init():
            model = cls(model_config)
    except (UsageError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: {error}") from None
    fill(model, tensors, str(path), dtype)
    model.info, model.file, model.sha256 = document, path, hub.check_sha256(path)
    model.weights_sha256 = hub.weights_sha256(path, header)
    model.requires_grad_(False).eval()
    return model.to(device)


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
