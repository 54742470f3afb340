"""What a model family is. Commands and the trainer know this contract only, never which family they hold.

A family is a torch module built from its config alone. It says what it `can` do; it learns through `training_step`, a
generator that yields (phase, loss, figures): the loop runs backward and that phase's optimiser at each yield and then
resumes it, so adversarial training needs no loop of its own. It draws through `sample`, and moves between pictures and
codes through `encode` and `decode`.

A model is one safetensors file: the tensors of `state_dict()` minus those that only training needs, and in the header
one JSON document `genctl` that says everything else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from genctl import config, files, hub
from genctl.errors import ModelError, UsageError

if TYPE_CHECKING:
    from genctl.data.pictures import Pictures
    from genctl.draws import Draw

FORMAT = 1
Losses = Iterator[tuple[str, Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Blend:
    """A condition between two prompts: share 0 is `start`, 1 is `end`."""

    start: str
    end: str
    share: float


@dataclass(frozen=True)
class Request:
    """What to draw: one picture a seed; `prompts[i]` goes with `seeds[i]`. None means: as the model file says."""

    seeds: list[int]
    prompts: list[str | Blend] = field(default_factory=list)
    negative: str = ""
    steps: int | None = None
    solver: str | None = None
    guidance_scale: float | None = None
    guidance_interval: tuple[float, float] | None = None  # of t; outside, the plain conditional prediction
    guidance: Literal["cfg", "apg", "zero_star"] = "cfg"  # the rule, diffusion/guide.py
    rescale: float = 0.0  # share in which guided pictures get the unguided ones' contrast back
    also: list[tuple[str, float]] = field(default_factory=list)  # further prompts and their weights, for all pictures
    guide: Any = None  # a weaker model of the same kind to guide away from, instead of the prompt's absence
    image: Tensor | None = None  # [3, H, W] to start from, noised up to t = strength
    strength: float = 1.0
    mask: Tensor | None = None  # [1, H, W]: where it is 0 the image stays
    path: str | None = None  # to sample along, whatever path the model was trained on
    spacing: Literal["uniform", "karras", "exponential", "beta"] | None = None  # of the times, and
    shift: float | None = None  # towards noise
    noise: Tensor | None = None  # [n, ...] instead of the seeds' own
    chunk: int = 8  # pictures drawn at once
    preview: bool = False
    packed: bool = True  # keep packed weights (and on a GPU the captured loop) for the next call
    dtype: torch.dtype | None = None


@dataclass(frozen=True)
class Drawn:
    """Pictures [n, 3, H, W] in [-1, 1] of `request.seeds[start : start + n]`; `final` is False for a preview."""

    start: int
    pictures: Tensor
    step: int
    steps: int
    final: bool


class Source(Protocol):
    """Training data in the form a family wants, resident on the training device."""

    weights: Tensor  # [N] how often each row is drawn

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        """The batch of these rows; augmentation and the choice of caption draw from `draw` (on the CPU)."""
        ...


class Family(nn.Module):
    """Base of all families; see the module's docstring for the contract."""

    name: ClassVar[str]
    Config: ClassVar[type]
    can: ClassVar[frozenset[str]]  # of: sample, encode, decode, interpolate, text, class, image, mask
    spaces: ClassVar[tuple[str, ...]] = ("code",)  # where pictures can be taken: "code" (encode), "noise" (invert)
    training_only: ClassVar[tuple[str, ...]] = ()  # prefixes of tensors that the model file leaves out
    config: Any
    pixels: int

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        self.info: dict[str, Any] = {}  # the header's document, once loaded or trained
        self.file: Path | None = None  # that it was loaded from
        self.sha256 = ""  # of that file
        self.weights_sha256 = ""  # of its tensors alone: the same for a file whose header was rewritten
        self.parts: dict[str, Any] = {}  # frozen helpers (codec, text encoder): loaded by name, never saved within

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def phases(self) -> dict[str, nn.Module]:
        """phase -> the module whose parameters that phase's optimiser owns."""
        raise NotImplementedError

    def rate_of(self, phase: str) -> float:
        """A phase's learning rate in units of the run's."""
        return 1.0

    def averaged(self) -> nn.Module:
        """The module whose moving average becomes the model file."""
        return self.phases()["model"]

    def prepare_training(self) -> None:
        """Called before a model made from a configuration is trained. Raises UsageError for one that can't be."""

    def compile_parts(self) -> None:
        """Compile, in place, what training repeats most (`train.compile`); names in the state stay as they are."""

    @staticmethod
    def settled(config: Any) -> Any:
        """The configuration with what it leaves open (None) filled in from the parts it names, without loading them."""
        return config

    @staticmethod
    def fitted(config: Any, pictures: Pictures) -> Any:
        """The configuration with what it takes from the training pictures (their classes) filled in."""
        return config

    @staticmethod
    def part_hashes(config: Any) -> dict[str, str]:
        """part -> hash of its tensors, of what the config names; without loading it."""
        return {}

    def source(self, pictures: Pictures, device: torch.device) -> Source:
        """Turn decoded pictures into what `training_step` wants, once (latents and embeddings are cached)."""
        raise NotImplementedError

    def training_step(self, batch: dict[str, Tensor], draw: Draw, progress: float) -> Losses:
        """Yield (phase, loss, figures), means over the batch's rows. `draw` gives those rows their random numbers, on
        the training device; `progress` runs from 0 to 1."""
        raise NotImplementedError

    def validation_loss(self, batch: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        """Held-out figures of one batch; the first one is the loss."""
        raise NotImplementedError

    def finish(self, source: Source) -> None:
        """Called before a model file is written: measure what the file must record (a codec's latent statistics)."""

    def facts(self) -> dict[str, Any]:
        """What this family adds to the header's document."""
        return {}

    def preview(self, source: Source) -> Tensor:
        """A few pictures [N, 3, H, W] from fixed seeds that show how training goes."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Called once before inference: pack weights, move to the fast path."""

    def sample(self, request: Request) -> Iterator[Drawn]:
        raise UsageError(f"a {self.name} model cannot sample")

    def resolved(self, request: Request) -> dict[str, Any]:
        """What `sample` will do where the request left it open: the facts that a picture's provenance records."""
        return {}

    def cuts(self, prompt: str) -> bool:
        """Whether the prompt is longer than the model reads."""
        return False

    def noise_shape(self) -> tuple[int, ...]:
        """The shape of one picture's starting noise."""
        raise UsageError(f"a {self.name} model has no noise space")

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [-1, 1] -> codes [B, ...]."""
        raise UsageError(f"a {self.name} model cannot encode")

    def invert(self, pictures: Tensor, prompt: str = "", steps: int | None = None) -> Tensor:
        """Pictures [B, 3, H, W] -> the noise [B, ...] that draws them."""
        raise UsageError(f"a {self.name} model has no noise space")

    def from_noise(self, noise: Tensor, prompt: str = "", steps: int | None = None) -> Tensor:
        """The way back of `invert`."""
        raise UsageError(f"a {self.name} model has no noise space")

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, ...] -> pictures [B, 3, H, W] in [-1, 1]."""
        raise UsageError(f"a {self.name} model cannot decode")


FAMILIES: dict[str, tuple[str, str]] = {  # name -> (module, class); imported when needed
    "vae": ("genctl.families.vae", "VAE"),
    "ldm": ("genctl.families.ldm", "LDM"),
    "rf": ("genctl.families.rf", "RF"),
}


def family_class(name: str) -> type[Family]:
    """The class of a family by name. Raises ModelError for an unknown one."""
    import importlib

    if name not in FAMILIES:
        raise ModelError(f"unknown model family {name!r}; this version knows {', '.join(FAMILIES)}")
    module, attribute = FAMILIES[name]
    return getattr(importlib.import_module(module), attribute)


def save(model: Family, path: Path, tensors: dict[str, Tensor], document: dict[str, Any]) -> str:
    """Write a model file; returns its sha256. `document` holds what only the caller knows (training, data, figures)."""
    facts = {"format": FORMAT, "family": model.name, "can": sorted(model.can), "pixels": model.pixels}
    document = facts | {"config": config.to_dict(model.config)} | model.facts() | document
    title = str(document.get("title", model.name))
    metadata: dict[str, str] = {
        "genctl": json.dumps(document, sort_keys=True, ensure_ascii=False),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"genctl/{model.name}",
        "modelspec.implementation": "genctl",
        "modelspec.title": title,
        "modelspec.resolution": f"{model.pixels}x{model.pixels}",
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
    cls = family_class(document["family"])
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
