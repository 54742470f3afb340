"""What a picture is asked for: its condition, size and edit, which every family shares, and the options of its family's
kind. A flag, a JSON line, a Python keyword and a picture's own provenance all come through `build`. Without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from genctl.errors import UsageError, nearest
from genctl.families import registry
from genctl.options import Option, Options, PictureSource, by_keyword, declared, option
from genctl.sizes import MOST_SIDE, Size

PICTURE = "From a picture"  # a panel of --help
MOST_DRAWN = 8_000_000  # pixels of a picture that is drawn
MOST_TOGETHER = 64_000_000  # pixels of all frames of a clip that is drawn
MOST_AREA = 64  # times the area of the training pictures, of one that is drawn
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Asked(Options):
    """What every family's pictures can be asked for."""

    prompt: str = option("", "What to draw; several prompts are drawn in turn.", flags=("--prompt", "-p"))
    class_name: str = option("", "Class, of a class-conditional model.", flags=("--class",), key="class")
    size: Size | None = option(None, "WxH or one side, also --width, --height (default: as trained).")
    dtype: Literal["auto", "fp32", "bf16"] = option("auto", "Numeric precision")
    image: PictureSource | None = option(
        None,
        "Begin from this picture: image to image; video: its first frame, or a clip to continue.",
        panel=PICTURE,
        restored=False,
    )
    mask: PictureSource | None = option(
        None,
        "Inpainting: regenerate where this is white, keep where black or transparent.",
        panel=PICTURE,
        restored=False,
    )
    strength: float | None = option(
        None, "How far from --image: 1 = ignore it (default .6; with --mask 1).", panel=PICTURE, low=0.01, high=1,
        aliases=("denoising_strength", "denoise"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt and self.class_name:
            raise UsageError("--prompt or --class, not both: a model takes one of them")
        if self.image is None and (self.mask is not None or self.strength is not None):
            raise UsageError("--mask and --strength need the picture that they change: --image")

    @property
    def condition(self) -> str:
        return self.class_name or self.prompt

    @property
    def how_far(self) -> float:
        return self.strength or (0.6 if self.mask is None else 1.0)


@dataclass(frozen=True)
class Job:
    """One picture to draw."""

    model: str
    seed: int
    asked: Asked
    options: Options
    document: Any  # of the model's file

    @property
    def condition_key(self) -> str:
        return "class" if self.asked.class_name else "prompt"

    @property
    def shared(self) -> tuple[Any, ...]:
        """What jobs that are drawn together have in common; nothing is guided where nothing is asked for."""
        return self.model, replace(self.asked, prompt="", class_name=""), self.options, bool(self.asked.condition)

    def fields(self, size: Size) -> dict[str, Any]:
        """What a file name's template can hold of it, when it is drawn at this size."""
        settled = self.options.settled(self.document, bool(self.asked.condition))
        values = {name: getattr(settled, name) for name in declared(type(settled))}
        values |= {name: getattr(self.asked, name) for name in declared(Asked)}
        named = {"class": self.asked.class_name, "prompt": self.asked.condition, "size": str(size)}
        return values | named | {"seed": self.seed, "model": self.model, "width": size.width, "height": size.height}


def of_all_kinds(named: Callable[[type[Options]], dict[str, Option]]) -> dict[str, Option]:
    """The options of all kinds by what `named` calls them, those that every family shares first; of two that share a
    name the first one."""
    found: dict[str, Option] = {}
    kinds: list[type[Options]] = [Asked, *registry.kinds()]
    for kind in kinds:
        found |= {name: about for name, about in named(kind).items() if name not in found}
    return found


def every_option() -> dict[str, Option]:
    """By their names."""
    return of_all_kinds(declared)


def keywords() -> dict[str, Option]:
    """By everything that a JSON line may call them."""
    return of_all_kinds(by_keyword)


def recorded_keys() -> dict[str, Option]:
    """By what a picture's provenance calls them."""
    return of_all_kinds(lambda kind: {about.key: about for about in declared(kind).values()})


def build(model: str, document: Document, given: Mapping[str, Any]) -> tuple[Asked, Options]:
    """What was asked of this model, checked. Raises UsageError for an option that it does not take, a value that cannot
    be, or what does not go together."""
    kind = registry.options_class(document["family"])
    shared, own = by_keyword(Asked), by_keyword(kind)
    asked: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for key, value in sided(given).items():
        known, into = (shared, asked) if key in shared else (own, options)
        if key not in known:
            raise UsageError(_unknown(key, model, document, kind))
        if known[key].name in into:
            raise UsageError(f"{known[key].flags[0]} is given twice, once as {key!r}")
        into[known[key].name] = value
    said, own_options = Asked(**asked), kind(**options)
    if said.image is not None:
        own_options = own_options.from_picture(bool(said.condition))
    _check(model, document, said, own_options)
    return said, own_options


def sided(given: Mapping[str, Any]) -> dict[str, Any]:
    """Width and height, given apart, as one size."""
    rest = {key: value for key, value in given.items() if key not in ("width", "height")}
    sides = [given[key] for key in ("width", "height") if given.get(key) is not None]
    if len(sides) == 1 or (sides and given.get("size") is not None):
        raise UsageError("--width and --height go together (or --size WxH)")
    return rest | ({"size": sides} if sides else {})


def takes(document: Document) -> list[str]:
    """The flags of the options that a model takes."""
    kind = registry.options_class(document["family"])
    refused = kind.refused(document)
    return [about.flags[0] for name, about in declared(kind).items() if name not in refused]


def _unknown(key: str, model: str, document: Document, kind: type[Options]) -> str:
    """Why a model does not take a key: it is another kind's, or nobody's."""
    able = [name for name in registry.REGISTRY if key in by_keyword(registry.options_class(name))]
    if able:
        flag = by_keyword(registry.options_class(able[0]))[key].flags[0]
        return f"{flag} is for {', '.join(able)}; {model} takes {', '.join(takes(document)) or 'no options'}"
    known = [
        about.key if about.key == "class" else name for one in (Asked, kind) for name, about in declared(one).items()
    ]
    return f"unknown key {key!r}{nearest(key, known)}; {model} takes {', '.join(known)}"


def _check(model: str, document: Document, asked: Asked, options: Options) -> None:
    """Raise UsageError for what this model does not do."""
    can = document["can"]
    for kind, wanted in (("text", asked.prompt), ("class", asked.class_name)):
        if wanted and kind not in can:
            raise UsageError(f"{model} takes no {kind} condition")
    for name in ("image", "mask"):
        if getattr(asked, name) is not None and name not in can:
            raise UsageError(f"--{name}: {model} cannot start from one")
    if asked.strength is not None and registry.row(document["family"]).clips:
        raise UsageError(f"--strength: {model} goes on from the picture, which stays as it is")
    options.check_taken(document, model)
    frames = getattr(options.settled(document, bool(asked.condition)), "frames", None) or 1
    if asked.image is not None and registry.row(document["family"]).clips and frames == 1:
        raise UsageError("--frames 1: --image is the first frame; ask for two or more")
    trained = Size.of(document["pixels"])
    if asked.size is not None:
        _check_size(model, asked.size, trained, type(options).sides(document))
    if frames * (asked.size or trained).area > MOST_TOGETHER:
        most = f"more than {MOST_TOGETHER // 1_000_000} megapixels"
        what, less = (f"--frames {frames} of", "fewer, or smaller ones") if frames > 1 else ("--size", "a smaller one")
        raise UsageError(f"{what} {asked.size or trained}: {most}; draw {less}")


def _check_size(model: str, size: Size, trained: Size, step: int) -> None:
    if size == trained:
        return
    if not step:
        raise UsageError(f"--size {size}: {model} draws {trained} only")
    if not size.divides(step):
        raise UsageError(
            f"--size {size}: {model} draws sides that are multiples of {step}, such as {size.nearest(step)}"
        )
    if size.area > MOST_AREA * trained.area:
        raise UsageError(f"--size {size}: more than {MOST_AREA} times the {trained} of {model}'s training pictures")


def size_of(job: Job, picture: tuple[int, int] | None = None) -> Size:
    """The size that a job draws: the one asked for, else that of training, in the proportions of the picture that is
    changed where the model can."""
    trained = Size.of(job.document["pixels"])
    if trained.area > MOST_DRAWN:
        raise UsageError(f"{job.model}: draws {trained}, more than {MOST_DRAWN // 1_000_000} megapixels; give a --size")
    step = type(job.options).sides(job.document)
    if job.asked.size is not None or picture is None or not step:
        return job.asked.size or trained
    scale = (trained.area / (picture[0] * picture[1])) ** 0.5
    width, height = (min(MOST_SIDE // step * step, max(1, round(side * scale))) for side in picture)
    return Size(width, height).nearest(step)
