"""What a sample command asks for: its settings (also from a picture's provenance), its jobs, the request they make."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genctl.cli import shared
from genctl.errors import InputError, UsageError
from genctl.seeds import MOST

if TYPE_CHECKING:
    from genctl.families.base import Family, Request

PROMPT_KEYS = ("prompt", "class", "seed", "n")  # of a JSON line of --prompts
RECORDED: dict[str, tuple[str, Any]] = {  # setting -> its key in a picture's provenance, and what no key means
    "model": ("model", "ldm"), "prompt": ("prompt", ""), "class_name": ("class", ""), "cfg": ("guidance_scale", None),
    "steps": ("steps", None), "seed": ("seed", None), "negative": ("negative", ""), "solver": ("solver", None),
    "interval": ("guidance_interval", None), "guidance": ("guidance", "cfg"), "rescale": ("rescale", 0.0),
    "also": ("also", []), "strength": ("strength", None), "path": ("path", None), "spacing": ("spacing", None),
    "shift": ("shift", None), "dtype": ("dtype", "auto"),
}  # fmt: skip
MOST_SEED = (1 << 62) - 1


@dataclass(frozen=True)
class Job:
    """One picture to draw; `prompt` is a class's name where that is what was given."""

    prompt: str
    seed: int
    is_class: bool = False


def interval_of(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
        if not 0 <= low <= high <= 1:
            raise ValueError
    except ValueError:
        raise UsageError(f"--interval {text}: wants LOW,HIGH, for example 0.1,0.95") from None
    return low, high


def refuse_conditions(settings: dict[str, Any]) -> None:
    """Raise UsageError for options that only a conditional model has a use for."""
    for name in ("negative", "also"):
        if settings[name]:
            raise UsageError(f"--{name}: {settings['model']} takes no condition")
    if settings["cfg"] is not None and settings["guide"] is None:
        raise UsageError(f"--cfg: {settings['model']} takes no condition to guide by; --guide names a weaker model")


def weighted(texts: list[str]) -> list[tuple[str, float]]:
    """`hat:0.5` -> ("hat", 0.5); without a number the weight is 1."""
    pairs = []
    for text in texts:
        words, _, number = text.rpartition(":")
        try:
            pairs.append((words, float(number)) if words else (text, 1.0))
        except ValueError:
            pairs.append((text, 1.0))
        shared.finite("--also", pairs[-1][1])
    return pairs


def start_of(image: Path | None, mask: Path | None, strength: float | None) -> dict[str, Any]:
    """The picture to start from, the mask, and how far to go: read before the model is."""
    if image is None:
        return {}
    from genctl.media.pictures import read_picture
    from genctl.media.stream import read_file

    start: dict[str, Any] = {"image": read_picture(read_file(image), str(image))}
    if mask is not None:
        start["mask"] = read_picture(read_file(mask), str(mask))
        if start["mask"].size != start["image"].size:
            sizes = ["x".join(map(str, start[name].size)) for name in ("mask", "image")]
            raise InputError(f"{mask}: is {sizes[0]}, the picture {sizes[1]}; make them one size")
    return start | {"strength": strength or (0.6 if mask is None else 1.0)}


def changes(
    family: Family, start: dict[str, Any], settings: dict[str, Any], device: str, quiet: bool
) -> dict[str, Any]:
    """What the request takes besides the settings: a picture, a mask, a guide. Raises UsageError where the model
    cannot."""
    from genctl.media.pictures import fit, to_float, to_tensor

    changes: dict[str, Any] = {}
    guide = settings["guide"]
    if start:
        for name in ("image", "mask"):
            if name in start and name not in family.can:
                raise UsageError(f"--{name}: {settings['model']} cannot start from one")
        if start["image"].size[0] != start["image"].size[1]:
            shared.remark("genctl: --image is cropped to the middle square, which is what the model draws", quiet)
        changes = {"image": to_float(to_tensor(fit(start["image"], family.pixels))), "strength": start["strength"]}
        if "mask" in start:
            drawn = to_tensor(fit(start["mask"].convert("L").convert("RGB"), family.pixels))
            changes["mask"] = (drawn[:1] > 127).float()
    if guide is not None:
        changes["guide"] = shared.load(guide, device, quiet)
        if changes["guide"].name != family.name:
            raise UsageError(f"--guide {guide}: a {changes['guide'].name} model, not {family.name}")
    return changes


def like_picture(
    path: Path, settings: dict[str, Any], given: set[str], image: Path | None, mask: Path | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the picture at `path` says of itself, and its settings; what was given on the command line wins."""
    from genctl.media.provenance import read_provenance
    from genctl.media.stream import read_file

    document = read_provenance(read_file(path))
    if document is None:
        raise InputError(f"{path}: does not say how it was made")
    if document.get("task") or document.get("count", 1) != 1:
        what = document.get("task") or f"a grid of {document['count']}"
        raise InputError(
            f"{path}: is no single drawing ({what}); --like repeats those, and info says how this was made"
        )
    named = str(document.get("model", ""))
    if "model" not in given and (shared.hub.path_like(named) or ":" in named):
        raise InputError(f"{path}: names the model {named!r}; give it with --model if you trust it")
    for name, file in (("image", image), ("mask", mask)):
        if document.get(name) and file is None:
            raise InputError(f"{path}: was made with another picture, which it does not hold; give that with --{name}")
    if document.get("guide") and "guide" not in given:
        raise InputError(f"{path}: was guided by the model {document['guide']!r}; give it with --guide")
    recorded = {key: document.get(name, default) for key, (name, default) in RECORDED.items()}
    _check_recorded(path, recorded)
    settings = settings | {key: value for key, value in recorded.items() if key not in given}
    return document, settings


def remark_differences(like: Path | None, made: dict[str, Any], family: Family, request: Request, quiet: bool) -> None:
    """Say of what a picture was made that is another thing here, so that it will not be drawn again as it was."""
    resolved = family.resolved(request) | {"sha256": family.sha256}
    for key, what in (("sha256", "the model"), ("image", "--image"), ("mask", "--mask"), ("guide", "--guide")):
        if made and made.get(key) != resolved.get(key):
            shared.remark(f"genctl: {what} is not what {like} was made with; the picture will differ", quiet)


def remark_guidance(family: Family, scale: float | None, quiet: bool) -> None:
    """Say of a student when its guidance scale is none of those that it was taught."""
    taught = family.info.get("teacher", {}).get("settings", {})
    low, high = taught.get("least_guidance"), taught.get("most_guidance")
    if scale is not None and low is not None and not low <= scale <= high:
        shared.remark(f"genctl: this student was taught --cfg {low:g} to {high:g}; {scale:g} is a guess", quiet)


def _check_recorded(path: Path, recorded: dict[str, Any]) -> None:
    """Raise InputError where a picture's provenance holds something that no setting can be."""
    texts = ("model", "prompt", "class_name", "negative", "guidance", "dtype")
    fine = {name: isinstance(recorded[name], str) for name in texts}
    fine |= {name: isinstance(recorded[name], str | None) for name in ("solver", "path", "spacing")}
    ranges = {"cfg": (-1e6, 1e6), "rescale": (0, 1), "shift": (0.01, 1e6), "strength": (0.01, 1)}
    fine |= {name: recorded[name] is None or _within(recorded[name], *ends) for name, ends in ranges.items()}
    seed, steps = recorded["seed"], recorded["steps"]
    fine["seed"] = seed is None or (type(seed) is int and 0 <= seed <= MOST_SEED)
    fine["steps"] = steps is None or (type(steps) is int and 1 <= steps <= 1000)
    ends, also = recorded["interval"], recorded["also"]
    fine["interval"] = ends is None or (_pair(ends) and _within(ends[0], 0, 1) and _within(ends[1], ends[0], 1))
    fine["also"] = isinstance(also, list) and all(_pair(row) and _within(row[1], -1e6, 1e6) for row in also)
    for name, good in fine.items():
        if not good:
            raise InputError(f"{path}: says {RECORDED[name][0]} {recorded[name]!r} of itself, which cannot be")


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def jobs_of(settings: dict[str, Any], seeds: str | None, count: int, prompts: str | None) -> tuple[list[Job], str]:
    """What to draw, in order, and the remark that tells a seed which nobody gave."""
    from genctl.seeds import fresh_seed, parse_seeds

    named, one_class = settings["prompt"] or settings["class_name"], bool(settings["class_name"])
    if seeds is not None:
        return [Job(named, seed, one_class) for seed in parse_seeds(seeds)], ""
    fresh = settings["seed"] is None
    first = fresh_seed() if fresh else settings["seed"]
    if prompts is None:
        return [Job(named, first + i, one_class) for i in range(count)], f"seed {first}" if fresh else ""
    jobs, without = _prompt_jobs(prompts, first, count)
    return jobs, f"seed {first} for each prompt without one" if fresh and without else ""


def _prompt_jobs(source: str, first: int, count: int) -> tuple[list[Job], int]:
    """Jobs of a file of prompts, each `count` times from the seed `first` on, and how many lines have no seed of their
    own; a line that begins with { is a JSON object (prompt or class, seed, n)."""
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{source}: not UTF-8 text") from None
    jobs: list[Job] = []
    without = 0
    for number, line in enumerate(filter(None, map(str.strip, text.splitlines())), 1):
        row: dict[str, Any] = {"prompt": line}
        if line.startswith("{"):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{source}: line {number} is not JSON ({error})") from None
        unknown = sorted(row.keys() - PROMPT_KEYS)
        if unknown:
            raise InputError(
                f"{source}: line {number}: unknown key {unknown[0]!r}; it can hold {', '.join(PROMPT_KEYS)}"
            )
        start, copies = row.get("seed", first), row.get("n", count)
        if type(start) is not int or type(copies) is not int or copies < 1:
            raise InputError(f"{source}: line {number}: seed and n are whole numbers")
        if len(jobs) + copies > MOST:
            raise InputError(f"{source}: line {number}: more than {MOST:,} pictures in one call")
        if "prompt" in row and "class" in row:
            raise InputError(f"{source}: line {number}: prompt or class, not both: a model takes one of them")
        asked = str(row.get("class", row.get("prompt", "")))
        jobs += [Job(asked, start + i, "class" in row) for i in range(copies)]
        without += "seed" not in row
    if not jobs:
        raise InputError(f"{source}: no prompts")
    return jobs, without


def request_of(settings: dict[str, Any], jobs: list[Job], batch: int, preview: bool) -> Request:
    from genctl.families.base import Request

    interval = settings["interval"]
    return Request(
        seeds=[job.seed for job in jobs],
        prompts=[job.prompt for job in jobs],
        negative=settings["negative"],
        steps=settings["steps"],
        solver=settings["solver"],
        guidance_scale=settings["cfg"],
        guidance_interval=tuple(interval) if interval else None,
        guidance=settings["guidance"],
        path=settings["path"],
        spacing=settings["spacing"],
        shift=settings["shift"],
        rescale=settings["rescale"],
        also=[(str(text), float(share)) for text, share in settings["also"]],
        chunk=batch,
        preview=preview and sys.stderr.isatty(),
        dtype=shared.dtype_of(settings["dtype"]),
    )
