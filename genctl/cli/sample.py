"""genctl sample: draw pictures."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genctl.cli import asked, shared
from genctl.errors import UsageError
from genctl.media import names
from genctl.seeds import MOST

if TYPE_CHECKING:
    from torch import Tensor

    from genctl.families.base import Family, Request


PICTURE, GUIDANCE, SAMPLER = "From a picture", "Guidance", "Sampler"  # panels of --help


def sample(
    context: typer.Context,
    model: shared.Model = "ldm",
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="What to draw.")] = "",
    class_name: Annotated[str, typer.Option("--class", help="Of a class-conditional model: which class.")] = "",
    cfg: Annotated[float | None, typer.Option("--cfg", "--cfg-scale", help="Guidance scale; 1 = none.")] = None,
    steps: Annotated[int | None, typer.Option(help="Solver steps.", min=1, max=1000)] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", "-s", min=0, max=asked.MOST_SEED, help="Of the first picture; picture i has seed + i."),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds such as 3,7,10-15.")] = None,
    count: Annotated[int, typer.Option("-n", "--count", help="How many pictures.", min=1, max=MOST)] = 1,
    output: shared.Output = None,
    force: shared.Force = False,
    prompts: Annotated[
        str | None, typer.Option(help="File or -: a prompt (or class), or JSON (prompt, seed, n), a line.")
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="All pictures in one.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show each step in the terminal.")] = False,
    like: Annotated[Path | None, typer.Option(help="Repeat what made this picture.")] = None,
    image: Annotated[
        Path | None, typer.Option(help="Vary this one instead of starting from noise.", rich_help_panel=PICTURE)
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="How far: 1 = anew (default .6; with --mask 1).", rich_help_panel=PICTURE),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Redraw where this is white, keep where black.", rich_help_panel=PICTURE)
    ] = None,
    negative: Annotated[
        str,
        typer.Option("--negative", "--negative-prompt", help="What to steer away from.", rich_help_panel=GUIDANCE),
    ] = "",
    also: Annotated[
        list[str] | None,
        typer.Option(help="A further prompt and its weight, such as hat:0.5 (repeatable).", rich_help_panel=GUIDANCE),
    ] = None,
    guide: Annotated[
        str | None, typer.Option(help="A weaker model of the same kind to steer away from.", rich_help_panel=GUIDANCE)
    ] = None,
    guidance: Annotated[
        str, typer.Option(help=f"Rule: {', '.join(shared.GUIDANCE)}.", rich_help_panel=GUIDANCE)
    ] = "cfg",
    interval: Annotated[
        str | None, typer.Option(help="Guide only for t within LOW,HIGH (1 = noise).", rich_help_panel=GUIDANCE)
    ] = None,
    rescale: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the contrast to bring back.", rich_help_panel=GUIDANCE)
    ] = 0.0,
    solver: Annotated[
        str | None,
        typer.Option(help=f"One of {', '.join(shared.SOLVERS)} (default: the model's own).", rich_help_panel=SAMPLER),
    ] = None,
    path: Annotated[
        str | None,
        typer.Option(
            help=f"From noise to data: {', '.join(shared.PATHS)} (default: as trained).", rich_help_panel=SAMPLER
        ),
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(help=f"Of the times: {', '.join(shared.SPACINGS)}.", rich_help_panel=SAMPLER)
    ] = None,
    shift: Annotated[
        float | None, typer.Option(help="Of the times, towards noise (above 1).", min=0.01, rich_help_panel=SAMPLER)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Of --model optimal: its pictures.", rich_help_panel=SAMPLER)
    ] = None,
    batch: Annotated[int, typer.Option(help="Drawn at once: speed and memory, not what is drawn.", min=1)] = 8,
    device: shared.Device = "auto",
    dtype: shared.Dtype = "auto",
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
    no_metadata: shared.NoMetadata = False,
) -> None:
    """Draw pictures: genctl sample --model ldm --prompt cat --cfg 4."""
    settings: dict[str, Any] = {
        "model": model, "prompt": prompt, "class_name": class_name, "cfg": cfg, "steps": steps, "seed": seed,
        "negative": negative, "solver": solver, "path": path, "spacing": spacing, "shift": shift,
        "interval": asked.interval_of(interval), "guidance": guidance, "rescale": rescale,
        "also": asked.weighted(also or []), "guide": guide, "strength": strength, "dtype": dtype,
    }  # fmt: skip
    given = shared.given(context)
    if seeds is not None and (given & {"seed"} or count > 1):
        raise UsageError("--seeds says all seeds and how many; leave out --seed and -n")
    if prompts is not None and (given & {"prompt", "class_name"} or seeds is not None):
        raise UsageError("--prompts has the prompts; leave out --prompt, --class and --seeds")
    if prompt and class_name:
        raise UsageError("--prompt or --class, not both: a model takes one of them")
    if image is None and (mask is not None or strength is not None):
        raise UsageError("--mask and --strength need the picture that they change: --image")
    made: dict[str, Any] = {}  # what a picture to be made again says of itself
    if like is not None:
        made, settings = asked.like_picture(like, settings, given, image, mask)
    if (data is not None) != (settings["model"] == shared.OPTIMAL):
        raise UsageError("--model optimal and --data FOLDER go together: it draws what a perfect fit of them would")
    from genctl.media.write import refuse_sheet, refuse_terminal

    shared.one_stdout(output, as_json)
    shared.finite("--cfg", settings["cfg"])
    shared.one_of("--guidance", settings["guidance"], shared.GUIDANCE)
    for name, known in (("solver", shared.SOLVERS), ("path", shared.PATHS), ("spacing", shared.SPACINGS)):
        if settings[name] is not None:
            shared.one_of(f"--{name}", settings[name], known)
    shared.finite("--shift", settings["shift"])
    jobs, drawn = asked.jobs_of(settings, seeds, count, prompts)
    document = shared.require(settings["model"], "sample")
    if prompts is not None and "class" in document["can"]:  # whose plain lines are classes
        jobs = [replace(job, is_class=True) for job in jobs]
    text = any(job.prompt and not job.is_class for job in jobs)
    shared.require(settings["model"], "sample", text=text, **{"class": any(job.is_class for job in jobs)})
    if settings["cfg"] == 1 and not settings["also"] and settings["guide"] is None:
        shared.refuse_unused(context, "at --cfg 1, which does not guide", "negative", "guidance", "interval", "rescale")
    if not {"text", "class"} & set(document.get("can", ["text"])):
        asked.refuse_conditions(settings)
    start = asked.start_of(image, mask, settings["strength"])
    results = [names.Result(i, job.seed, job.prompt, settings["model"]) for i, job in enumerate(jobs)]
    paths = [] if output == "-" else names.plan(output, results[:1] if grid else results, force, "a folder or --grid")
    if grid:
        refuse_sheet(names.format_of(paths[0]) if paths else "png", len(jobs), (document["pixels"], document["pixels"]))
    if output == "-":
        refuse_terminal()
    family = shared.load_optimal(data, device, quiet) if data else shared.load(settings["model"], device, quiet)
    _warn_cut(family, [job.prompt for job in jobs], quiet)
    request = asked.request_of(settings, jobs, batch, preview)
    request = replace(request, **asked.changes(family, start, settings, device, quiet))
    asked.remark_differences(like, made, family, request, quiet)
    asked.remark_guidance(family, request.guidance_scale, quiet)
    if drawn:
        shared.remark(drawn, quiet)
    _draw(family, request, jobs, settings, paths, grid, as_json, quiet, no_metadata)


def _warn_cut(family: Family, prompts: list[str], quiet: bool) -> None:
    for prompt in dict.fromkeys(filter(None, prompts)):
        if family.cuts(prompt):
            shared.remark(f"genctl: prompt cut to its first words: {prompt[:40]!r}...", quiet)


def _draw(
    family: Family, request: Request, jobs: list[asked.Job], settings: dict[str, Any], paths: list[Path], grid: bool,
    as_json: bool, quiet: bool, no_metadata: bool,
) -> None:  # fmt: skip
    """Run the sampler and put out each picture as soon as it is done."""
    import torch

    from genctl.media import write
    from genctl.media.pictures import to_image

    resolved = family.resolved(request)
    condition = ["class" if job.is_class else "prompt" for job in jobs]
    exact = {} if settings["dtype"] == "auto" else {"dtype": settings["dtype"]}
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
                facts = {condition[index]: job.prompt, "seed": job.seed, "size": size} | resolved | exact
                document = None if no_metadata else shared.made_by(family, settings["model"], **facts)
                put_out(to_image(picture), paths[index] if paths else None, document, as_json, seed=job.seed)
            progress.advance(len(part.pictures))
    if grid:
        facts = {condition[0]: jobs[0].prompt, "seed": jobs[0].seed, "count": len(jobs)} | resolved | exact
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
