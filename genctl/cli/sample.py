"""genctl sample: draw pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from genctl.asked import every_option
from genctl.cli import flags, shared
from genctl.cli.jobs import Documents, Prompts, like_plan, line_plan, product
from genctl.cli.output import Output, Session
from genctl.cli.progress import Progress
from genctl.errors import GenctlError, InputError, PipeClosedError, UsageError
from genctl.families import registry
from genctl.media.sheet import CELLS
from genctl.seeds import MOST, MOST_SEED, fresh_seed, parse_seeds


@flags.takes(every_option, sweeps=True)
def sample(
    context: typer.Context,
    model: shared.Models = registry.DRAWS,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            "-s",
            min=0,
            max=MOST_SEED,
            help="Of the first picture; picture i uses seed + i (default: random).",
        ),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds such as 3,7,10-15.")] = None,
    count: Annotated[
        int, typer.Option("-n", "--count", "--batch-count", help="How many pictures.", min=1, max=MOST)
    ] = 1,
    width: Annotated[int | None, typer.Option("--width", "-W", help="See --size.", min=1, hidden=True)] = None,
    height: Annotated[int | None, typer.Option("--height", "-H", help="See --size.", min=1, hidden=True)] = None,
    output: shared.Output = None,
    force: shared.Force = False,
    skip_existing: shared.SkipExisting = False,
    prompts: Annotated[
        str | None,
        typer.Option(help="File (- for stdin) of prompts or JSON objects of options, one a line."),
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="All pictures on one sheet, labelled by what differs.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show each step in the terminal.")] = False,
    like: Annotated[Path | None, typer.Option(help="Draw this picture or sheet of genctl again.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help=f"Pictures; --model {', '.join(registry.untrained())} draws with their exact denoiser."),
    ] = None,
    batch: Annotated[int, typer.Option(help="Pictures drawn at once; changes speed and memory only.", min=1)] = 8,
    device: shared.Device = "auto",
    trust: shared.Trust = False,
    as_json: shared.Json = False,
    progress: Progress = "auto",
    quiet: shared.Quiet = False,
    no_metadata: shared.NoMetadata = False,
    *,
    asked: dict[str, list[Any]],
) -> None:
    """Draw pictures: genctl sample --model ldm --prompt cat --cfg 4. Lists (--cfg 1,4 --steps 4,20) draw every pair."""
    given = shared.given(context)
    if (width is None) != (height is None) or (width and "size" in asked):
        raise UsageError("--width and --height go together, instead of --size WxH")
    if width and height:
        asked = asked | {"size": [every_option()["size"].said(f"{width}x{height}")]}
    if seeds is not None and (seed is not None or count > 1):
        raise UsageError("--seeds says all seeds and how many; leave out --seed and -n")
    if prompts is not None and ({"prompt", "class_name"} & asked.keys() or seeds is not None):
        raise UsageError("--prompts has the prompts; leave out --prompt, --class and --seeds")
    if prompts is not None and like is not None:
        raise UsageError("--like repeats a picture, --prompts draws others: give one of them")
    if skip_existing and (force or (output or "").startswith("-") or (seed is None and seeds is None and like is None)):
        raise UsageError("--skip-existing needs --seed (or --seeds), for the same names again, and no -f or -o -")
    shared.one_stdout(output, as_json)
    first = fresh_seed() if seed is None else seed
    numbers = parse_seeds(seeds) if seeds is not None else [first + index for index in range(count)]
    if numbers[-1] > MOST_SEED:
        raise UsageError(f"--seed {first} with -n {count}: seeds end at {MOST_SEED}")
    models = {"model": [name.strip() for name in model.split(",")]} if "model" in given or like is None else {}
    documents = Documents()
    out = Output(output, force, skip_existing, grid, as_json, not no_metadata, quiet)
    with Session(out, batch, device, data, preview, progress, documents, trust) as session:
        if prompts == "-" and not grid:
            _stay(session, models | asked, first, count, seed is None)
            return
        made: dict[str, Any] = {}
        drawn = ""
        if like is not None:
            chosen = {"seed": numbers} if seed is not None or seeds is not None else {}
            made, plan = like_plan(like, models | asked, chosen, count)
            session.out = replace(out, grid=grid or CELLS in made)
        elif prompts is not None:
            plan, without = line_plan(prompts, models | asked, first, count, documents)
            drawn = f"seed {first} for each prompt without one" if seed is None and without else ""
        else:
            plan = product(models | asked | {"seed": numbers})
            drawn = f"seed {first}" if seed is None and seeds is None else ""
        session.prepare(plan)
        session.announced = drawn
        session.draw(compare=(like, made) if like else None)


def _stay(session: Session, axes: dict[str, list[Any]], first: int, count: int, fresh: bool) -> None:
    """Draw each line of stdin as it comes; a line that cannot be drawn is said and passed over, and the process ends
    with the first such line's exit code."""
    failed = 0
    code = GenctlError
    empty = True
    lines = Prompts("-")
    while True:
        try:
            number, line = next(lines)
            empty = False
            plan, without = line_plan("-", axes, first, count, session.documents, [(number, line)])
            session.prepare(plan)
            if fresh and without:
                session.announced, fresh = f"seed {first} for each prompt without one", False
            with session.whole_pictures():
                session.draw()
        except StopIteration:
            break
        except Exception as error:  # also a fault of ours: whoever keeps this process goes on
            empty = False
            if isinstance(error, PipeClosedError):
                raise
            kind = type(error) if isinstance(error, GenctlError) else GenctlError
            code, failed = kind if not failed else code, failed + 1
            session.failed(lines.number, error)
    if empty:
        raise InputError("-: no prompts")
    if failed:
        raise code(f"{failed} {'line' if failed == 1 else 'lines'} could not be drawn")
