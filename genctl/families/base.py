"""What a model family is. Commands and the trainer know this contract only, never which family they hold.

A family is a torch module built from its config alone. It says what it `can` do; it learns through `training_step`, a
generator that yields (phase, loss, figures): the loop runs backward and that phase's optimiser at each yield and then
resumes it, so adversarial training needs no loop of its own. It draws through `sample`, and moves between pictures and
codes through `encode` and `decode`. What pictures can be asked for beside their condition is its kind's options,
declared without torch and named in registry.py; families/saved.py writes and reads model files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from genctl.config import to_dict
from genctl.errors import UsageError
from genctl.options import Options
from genctl.sizes import Size

if TYPE_CHECKING:
    from genctl.data.pictures import DataConfig, Pictures
    from genctl.rng import Draw

Watch = Callable[[str, int, int], None]  # stage, how many are done, of how many
Remark = Callable[[str], None]
Losses = Iterator[tuple[str, Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Blend:
    """A condition between two prompts: share 0 is `start`, 1 is `end`."""

    start: str
    end: str
    share: float


@dataclass(frozen=True)
class Edit:
    """A picture [3, H, W] in [-1, 1] to begin from instead of noise: varied as far as `strength` (1 = drawn anew), or
    redrawn where the mask [1, H, W] is not 0."""

    picture: Tensor
    strength: float = 1.0
    mask: Tensor | None = None


@dataclass(frozen=True)
class Request:
    """What to draw: one picture a seed; `conditions[i]`, a prompt or the name of a class, goes with `seeds[i]`. None
    means: as the model file says."""

    seeds: list[int]
    conditions: list[str | Blend] = field(default_factory=list)
    options: Any = None  # of the family's own kind (registry.py)
    edit: Edit | None = None
    size: Size | None = None
    noise: Tensor | None = None  # [n, ...] instead of the seeds' own
    chunk: int = 8  # pictures drawn at once: speed and memory, not what is drawn
    packed: bool = True  # keep packed weights (and on a GPU the captured loop) for the next call
    dtype: torch.dtype | None = None


@dataclass(frozen=True)
class Drawn:
    """Pictures of `request.seeds[start : start + n]` after so many steps: when `final` all n of them, before that the
    current guess of the first, made only where it is asked for."""

    start: int
    made: Tensor | Callable[[], Tensor]
    step: int = 1
    steps: int = 1
    final: bool = True

    @property
    def pictures(self) -> Tensor:
        """[n, 3, H, W] in [-1, 1]."""
        return self.made if isinstance(self.made, Tensor) else self.made()


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
    Options: ClassVar[type[Options]] = Options  # what pictures can be asked for; registry.py names the same
    can: frozenset[str]  # of: sample, encode, decode, interpolate, text, class, image, mask
    spaces: tuple[str, ...] = ("code",)  # of registry.SPACES: "code" (encode), "noise" (invert)
    axes: ClassVar[str] = "channels, height, width"  # what the numbers of a code are arranged by
    straight: ClassVar[bool] = False  # whether a walk between codes is on the straight line, not on the arc
    training_only: ClassVar[tuple[str, ...]] = ()  # prefixes of tensors that the model file leaves out
    scored: ClassVar[bool] = False  # the best-scoring weights of a run are kept, not the latest (training/score.py)
    config: Any
    pixels: Size  # of the pictures that it is trained on
    factor: int = 1  # pixels of the side of a code's cell
    period: int = 1  # frames of a clip that a frame of its code stands for
    fps: float = 1.0  # frames a second of clips

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        self.info: dict[str, Any] = {}  # the header's document, once loaded or trained
        self.file: Path | None = None  # that it was loaded from
        self.trusted = False  # whether it may name files elsewhere, and what is to be fetched, as its parts
        self.sha256 = ""  # of that file
        self.weights_sha256 = ""  # of its tensors alone: the same for a file whose header was rewritten
        self.watch: Watch = lambda stage, done, of: None  # hears how far the preparation of training is
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

    def beta2_at(self, progress: float) -> float | None:
        """Adam's second beta at a share of the run, where the family has a schedule of it."""
        return None

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
    def load_data(config: Any, folder: Path, data: DataConfig, report: Remark) -> Pictures:
        """The training data of a folder, at the size of the configuration. Raises InputError."""
        from genctl.data.pictures import load

        return load(folder, config.pixels, data, report)

    def inherited(self, family: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a model of that family, by the names that they would have here."""
        return tensors

    @staticmethod
    def fitted(config: Any, pictures: Pictures) -> Any:
        """The configuration with what it takes from the training pictures (their classes) filled in."""
        return config

    @staticmethod
    def part_hashes(config: Any) -> dict[str, str]:
        """part -> hash of its tensors, of what the config names; without loading it."""
        return {}

    def judged(self, pictures: Pictures) -> list[str]:
        """What a person should know before this is trained on these pictures, a line each."""
        return []

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

    def warnings(self, figures: dict[str, float]) -> list[str]:
        """What a person should know of a save's held-out figures, a line each."""
        return []

    def facts(self) -> dict[str, Any]:
        """What this family adds to the header's document."""
        return {}

    def preview(self, source: Source) -> Tensor:
        """A few pictures [N, 3, H, W] from fixed seeds that show how training goes."""
        raise NotImplementedError

    def previewed(self, source: Source) -> list[dict[str, Any]]:
        """What is known of each of those pictures beside the model's name; `label` is what a sheet writes above it."""
        return []

    def prepare(self) -> None:
        """Called once before inference: pack weights, move to the fast path."""

    def document(self) -> dict[str, Any]:
        """What the model's file says of itself (or will): what its options are checked against and settled by."""
        facts = {
            "family": self.name,
            "can": sorted(self.can),
            "pixels": self.pixels.plain,
            "config": to_dict(self.config),
        }
        return facts | self.facts() | self.info

    def sample(self, request: Request) -> Iterator[Drawn]:
        """The guess after each step, and each chunk of pictures once it is done."""
        raise UsageError(f"a {self.name} model cannot sample")

    def options(self, request: Request) -> Any:
        """The request's options, what they leave open filled in. Raises UsageError for what does not go together."""
        given, document = request.options or self.Options(), self.document()
        given.check_taken(document, f"a {self.name} model")
        return given.settled(document, any(request.conditions))

    def recorded(self, request: Request) -> dict[str, Any]:
        """What a picture's provenance records of the request's options."""
        return self.options(request).recorded()

    def remarks(self, request: Request) -> list[str]:
        """What a person should know before this is drawn, a line each: a prompt cut, a size never trained on."""
        return []

    def noise_shape(self) -> tuple[int, ...]:
        """The shape of one picture's starting noise."""
        raise UsageError(f"a {self.name} model has no noise space")

    def code_shape(self) -> tuple[int | None, ...]:
        """The sizes of a code's axes; None: any."""
        raise UsageError(f"a {self.name} model has no codes")

    def code_facts(self, pictures: Tensor, codes: Tensor) -> dict[str, float]:
        """What a code's file says of how near to the picture it leads back (`round_trip_db`), where that is not a
        matter of course."""
        return {}

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
