"""genctl sample: draw pictures."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genctl.cli import shared
from genctl.errors import InputError, UsageError
from genctl.media import names
from genctl.seeds import MOST

if TYPE_CHECKING:
    from torch import Tensor

    from genctl.families.base import Family, Request

PROMPT_KEYS = ("prompt", "seed", "n")  # of a JSON line of --prompts
RECORDED: dict[str, tuple[str, Any]] = {  # setting -> its key in a picture's provenance, and what no key means
    "model": ("model", "ldm"), "prompt": ("prompt", ""), "class_name": ("class", ""), "cfg": ("guidance_scale", None),
    "steps": ("steps", None), "seed": ("seed", None), "negative": ("negative", ""), "solver": ("solver", "euler"),
    "interval": ("guidance_interval", None), "guidance": ("guidance", "cfg"), "rescale": ("rescale", 0.0),
    "also": ("also", []), "strength": ("strength", None),
}  # fmt: skip
MOST_SEED = (1 << 62) - 1


@dataclass(frozen=True)
class Job:
    """One picture to draw."""

    prompt: str
    seed: int


def sample(
    context: typer.Context,
    model: shared.Model = "ldm",
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="What to draw.")] = "",
    class_name: Annotated[str, typer.Option("--class", help="Of a class-conditional model: which class.")] = "",
    cfg: Annotated[float | None, typer.Option("--cfg", "--cfg-scale", help="Guidance scale; 1 = none.")] = None,
    steps: Annotated[int | None, typer.Option(help="Solver steps.", min=1, max=1000)] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", "-s", min=0, max=MOST_SEED, help="Of the first picture; picture i has seed + i."),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds such as 3,7,10-15.")] = None,
    count: Annotated[int, typer.Option("-n", "--count", help="How many pictures.", min=1, max=MOST)] = 1,
    output: shared.Output = None,
    force: shared.Force = False,
    negative: Annotated[str, typer.Option("--negative", "--negative-prompt", help="What to steer away from.")] = "",
    prompts: Annotated[str | None, typer.Option(help="File or -: a prompt or JSON (prompt, seed, n) a line.")] = None,
    solver: Annotated[str, typer.Option(help=f"One of {', '.join(shared.SOLVERS)}.")] = "euler",
    interval: Annotated[str | None, typer.Option(help="Guide only for t within LOW,HIGH (1 = noise).")] = None,
    guidance: Annotated[str, typer.Option(help=f"Rule of guidance: {', '.join(shared.GUIDANCE)}.")] = "cfg",
    rescale: Annotated[
        float, typer.Option(min=0, max=1, help="Share in which guided contrast is brought back to normal.")
    ] = 0.0,
    also: Annotated[
        list[str] | None, typer.Option("--also", help="A further prompt with its weight, such as hat:0.5 (repeatable).")
    ] = None,
    guide: Annotated[
        str | None, typer.Option(help="A weaker model of the same kind to steer away from (autoguidance).")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Vary this picture instead of starting from noise.")] = None,
    strength: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="How far: 1 = anew (default .6; with --mask 1).")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="Redraw --image where this is white, keep it where black.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Of --model optimal: the pictures of which it is the optimum.")
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="All pictures in one.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show each step in the terminal.")] = False,
    like: Annotated[Path | None, typer.Option(help="Repeat what made this picture.")] = None,
    batch: Annotated[int, typer.Option(help="Pictures drawn at once: speed and memory, not what is drawn.", min=1)] = 8,
    device: shared.Device = "auto",
    dtype: shared.Dtype = "auto",
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
    no_metadata: shared.NoMetadata = False,
) -> None:
    """Draw pictures: genctl sample --model ldm --prompt cat --cfg 4."""
    settings: dict[str, Any] = {"model": model, "prompt": prompt, "class_name": class_name, "cfg": cfg, "steps": steps,
                                "seed": seed, "negative": negative, "solver": solver, "guidance": guidance,
                                "rescale": rescale, "also": _weighted(also or []), "guide": guide, "strength": strength,
                                "interval": _interval(interval)}  # fmt: skip
    given = shared.given(context)
    if seeds is not None and (given & {"seed"} or count > 1):
        raise UsageError("--seeds says all seeds and how many; leave out --seed and -n")
    if prompts is not None and (given & {"prompt", "class_name"} or seeds is not None):
        raise UsageError("--prompts has the prompts; leave out --prompt, --class and --seeds")
    if prompt and class_name:
        raise UsageError("--prompt or --class, not both: a model takes one of them")
    if image is None and (mask is not None or strength is not None):
        raise UsageError("--mask and --strength need the picture that they change: --image")
    if (data is not None) != (settings["model"] == shared.OPTIMAL):
        raise UsageError("--model optimal and --data FOLDER go together: it draws what a perfect fit of them would")
    if like is not None:
        settings = _like(like, settings, given, image)
    from genctl.media.write import refuse_sheet, refuse_terminal

    shared.one_stdout(output, as_json)
    shared.finite("--cfg", settings["cfg"])
    shared.one_of("--solver", settings["solver"], shared.SOLVERS)
    shared.one_of("--guidance", settings["guidance"], shared.GUIDANCE)
    jobs, drawn = _jobs(settings, seeds, count, prompts)
    one_class = bool(settings["class_name"])
    text = not one_class and any(job.prompt for job in jobs)
    document = shared.require(settings["model"], "sample", text=text, **{"class": one_class})
    if not {"text", "class"} & set(document.get("can", ["text"])):
        _refuse_conditions(settings)
    start = _start(image, mask, settings["strength"])
    results = [names.Result(i, job.seed, job.prompt, settings["model"]) for i, job in enumerate(jobs)]
    paths = [] if output == "-" else names.plan(output, results[:1] if grid else results, force, "a folder or --grid")
    if grid:
        refuse_sheet(names.format_of(paths[0]) if paths else "png", len(jobs), (document["pixels"], document["pixels"]))
    if output == "-":
        refuse_terminal()
    family = shared.load_optimal(data, device, quiet) if data else shared.load(settings["model"], device, quiet)
    _warn_cut(family, [job.prompt for job in jobs], quiet)
    request = _request(settings, jobs, batch, preview, dtype)
    request = replace(request, **_changes(family, start, settings, device, quiet))
    if drawn:
        shared.remark(drawn, quiet)
    _draw(family, request, jobs, settings, paths, grid, as_json, quiet, no_metadata)


def _interval(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
        if not 0 <= low <= high <= 1:
            raise ValueError
    except ValueError:
        raise UsageError(f"--interval {text}: wants LOW,HIGH, for example 0.1,0.95") from None
    return low, high


def _refuse_conditions(settings: dict[str, Any]) -> None:
    """Raise UsageError for options that only a conditional model has a use for."""
    for name in ("negative", "also"):
        if settings[name]:
            raise UsageError(f"--{name}: {settings['model']} takes no condition")
    if settings["cfg"] is not None and settings["guide"] is None:
        raise UsageError(f"--cfg: {settings['model']} takes no condition to guide by; --guide names a weaker model")


def _weighted(texts: list[str]) -> list[tuple[str, float]]:
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


def _start(image: Path | None, mask: Path | None, strength: float | None) -> dict[str, Any]:
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


def _changes(
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
        changes = {"image": to_float(to_tensor(fit(start["image"], family.pixels))), "strength": start["strength"]}
        if "mask" in start:
            drawn = to_tensor(fit(start["mask"].convert("L").convert("RGB"), family.pixels))
            changes["mask"] = (drawn[:1] > 127).float()
    if guide is not None:
        changes["guide"] = shared.load(guide, device, quiet)
        if changes["guide"].name != family.name:
            raise UsageError(f"--guide {guide}: a {changes['guide'].name} model, not {family.name}")
    return changes


def _like(path: Path, settings: dict[str, Any], given: set[str], image: Path | None) -> dict[str, Any]:
    """The settings of the picture at `path`; what was given on the command line wins."""
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
    if document.get("steps") is not None and not 1 <= document["steps"] <= 1000:
        raise InputError(f"{path}: names an impossible number of steps ({document['steps']})")
    if document.get("image") and image is None:
        raise InputError(f"{path}: was made from another picture, which it does not hold; give that with --image")
    if document.get("guide") and "guide" not in given:
        raise InputError(f"{path}: was guided by the model {document['guide']!r}; give it with --guide")
    recorded = {key: document.get(name, default) for key, (name, default) in RECORDED.items()}
    settings = settings | {key: value for key, value in recorded.items() if key not in given}
    used, _ = shared.describe(settings["model"])
    if shared.hub.check_sha256(used) != document.get("sha256"):
        shared.remark(f"genctl: {settings['model']} is not the file that made {path}; the picture will differ")
    return settings


def _jobs(settings: dict[str, Any], seeds: str | None, count: int, prompts: str | None) -> tuple[list[Job], str]:
    """What to draw, in order, and the remark that tells a seed which nobody gave."""
    from genctl.seeds import fresh_seed, parse_seeds

    named = settings["prompt"] or settings["class_name"]
    if seeds is not None:
        return [Job(named, seed) for seed in parse_seeds(seeds)], ""
    fresh = settings["seed"] is None
    first = fresh_seed() if fresh else settings["seed"]
    if prompts is None:
        return [Job(named, first + i) for i in range(count)], f"seed {first}" if fresh else ""
    jobs, without = _prompt_jobs(prompts, first, count)
    return jobs, f"seed {first} for each prompt without one" if fresh and without else ""


def _prompt_jobs(source: str, first: int, count: int) -> tuple[list[Job], int]:
    """Jobs of a file of prompts, each `count` times from the seed `first` on, and how many lines have no seed of their
    own; a line that begins with { is a JSON object (prompt, seed, n)."""
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
        jobs += [Job(str(row.get("prompt", "")), start + i) for i in range(copies)]
        without += "seed" not in row
    if not jobs:
        raise InputError(f"{source}: no prompts")
    return jobs, without


def _request(settings: dict[str, Any], jobs: list[Job], batch: int, preview: bool, dtype: str) -> Request:
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
        rescale=settings["rescale"],
        also=[(str(text), float(share)) for text, share in settings["also"]],
        chunk=batch,
        preview=preview and sys.stderr.isatty(),
        dtype=shared.dtype_of(dtype),
    )


def _warn_cut(family: Family, prompts: list[str], quiet: bool) -> None:
    for prompt in dict.fromkeys(filter(None, prompts)):
        if family.cuts(prompt):
            shared.remark(f"genctl: prompt cut to its first words: {prompt[:40]!r}...", quiet)


def _draw(
    family: Family, request: Request, jobs: list[Job], settings: dict[str, Any], paths: list[Path], grid: bool,
    as_json: bool, quiet: bool, no_metadata: bool,
) -> None:  # fmt: skip
    """Run the sampler and put out each picture as soon as it is done."""
    import torch

    from genctl.media import write
    from genctl.media.pictures import to_image

    resolved = family.resolved(request)
    condition = "class" if settings["class_name"] else "prompt"
    kept: list[Tensor] = []
    with Progress(len(jobs), quiet) as progress:
        for part in family.sample(request):
            if not part.final:
                progress.show(part.pictures[0], part.step, part.steps)
                continue
            if grid:
                kept.append(part.pictures)
                continue
            for offset, picture in enumerate(part.pictures):
                job, index = jobs[part.start + offset], part.start + offset
                size = f"{picture.shape[2]}x{picture.shape[1]}"
                facts = {condition: job.prompt, "seed": job.seed, "size": size} | resolved
                document = None if no_metadata else shared.made_by(family, settings["model"], **facts)
                put_out(to_image(picture), paths[index] if paths else None, document, as_json, seed=job.seed)
            progress.advance(len(part.pictures))
    if grid:
        facts = {condition: jobs[0].prompt, "seed": jobs[0].seed, "count": len(jobs)} | resolved
        document = None if no_metadata else shared.made_by(family, settings["model"], **facts)
        put_out(write.grid(torch.cat(kept)), paths[0] if paths else None, document, as_json, seed=jobs[0].seed)


def put_out(image: Any, path: Path | None, document: dict[str, Any] | None, as_json: bool, **facts: Any) -> None:
    """One picture to its file (its path on stdout), or as PNG to stdout."""
    from genctl.media import write

    if path is None:
        write.write_stdout(write.encode_picture(image, "png", document))
        return
    write.write_picture(path, image, document)
    shared.result(path, as_json, **facts)


class Progress:
    """A bar on stderr where that is a terminal and there is more than a moment's work; nothing otherwise."""

    def __init__(self, total: int, quiet: bool) -> None:
        self.total = total
        self.bar: Any = None
        self.shown = not quiet and sys.stderr.isatty()

    def __enter__(self) -> Progress:
        if self.shown and self.total > 8:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self.bar.start()
            self.task = self.bar.add_task("", total=self.total)
        return self

    def advance(self, count: int) -> None:
        if self.bar:
            self.bar.advance(self.task, count)

    def show(self, picture: Tensor, step: int, steps: int) -> None:
        """The current guess in the terminal, drawn over the last one."""
        if not self.shown:
            return
        from rich.console import Console

        from genctl.media.pictures import to_image
        from genctl.media.terminal import half_blocks

        console = Console(stderr=True)
        if console.no_color:
            return
        blocks = half_blocks(to_image(picture))
        if step > 1:
            console.file.write(f"\x1b[{str(blocks).count(chr(10)) + 1}A")
        console.print(blocks, end="")
        console.print(f"step {step} of {steps}")

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()
