"""genctl interpolate: between pictures, seeds or prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genctl.asked import build, every_option
from genctl.cli import flags, shared
from genctl.cli.output import named, put_out
from genctl.errors import InputError, UsageError
from genctl.families import registry
from genctl.media import names
from genctl.seeds import MOST_SEED, parse_seeds
from genctl.sizes import MOST_SIDE, Size

if TYPE_CHECKING:
    from PIL.Image import Image

    from genctl.model import Model, Pictures

ANIMATED = ("gif", "webp")
LEAST_SIDE = 8  # pixels: one cell of the shipped codec


CLIP = ("frames", "fps", "loop")  # of a clip, which no walk draws
PICTURES = ("steps",)  # options that a walk between pictures takes (through noise)


def walk_options() -> list[str]:
    """What a walk takes of the models' options: not what it has itself (`--frames`)."""
    return [name for name in flags.of_kinds() if name not in CLIP]


@flags.takes(walk_options, sweeps=False)
def interpolate(
    context: typer.Context,
    ends: Annotated[list[str] | None, typer.Argument(help="Two pictures or more; with --prompts, prompts.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help=f"Default: {registry.CODEC} for pictures, {registry.DRAWS} otherwise."),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Between seeds, such as 1,2,3.")] = None,
    prompts: Annotated[bool, typer.Option("--prompts", help="The ends are prompts: --prompts cat dog.")] = False,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="Of all frames, with --seeds or --direction.")] = "",
    seed: Annotated[
        int, typer.Option("--seed", "-s", min=0, max=MOST_SEED, help="Of all frames, with --prompts or --direction.")
    ] = 0,
    space: Annotated[
        str | None,
        typer.Option(help="Between pictures: code (latents) or noise (inverted; flow models)."),
    ] = None,
    frames: Annotated[int, typer.Option(help="Pictures in all, both ends included.", min=2)] = 9,
    loop: Annotated[
        bool, typer.Option("--loop", help="Back to the first end, so that a GIF closes without a jump.")
    ] = False,
    milliseconds: Annotated[
        int, typer.Option("--ms", help="Duration of a frame in a GIF or WebP, milliseconds.", min=10, max=60_000)
    ] = 80,
    output: shared.Output = None,
    force: shared.Force = False,
    device: shared.Device = "auto",
    trust: shared.Trust = False,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
    no_metadata: shared.NoMetadata = False,
    *,
    asked: dict[str, list[Any]],
) -> None:
    """Walk between pictures (or --seeds, --prompts; of a GAN along a --direction): a strip (.png), a GIF or WebP, or a
    folder/ of frames."""
    texts, pictures = (ends or [], []) if prompts else ([], ends or [])
    along = not ends and seeds is None and any(every_option()[option].walked for option in asked)
    if not along and (bool(ends) == (seeds is not None) or (prompts and not ends)):
        raise UsageError("give pictures (a.png b.png), --prompts cat dog, or --seeds 1,2: one of the three")
    if along and (loop or prompts):
        shared.refuse_unused(context, "without ends", "loop", "prompts")
    if space is not None:
        shared.one_of("--space", space, registry.SPACES)
    given = {name: values[0] for name, values in asked.items()}
    _refuse_unused(context, bool(pictures), prompts, along, output)
    shared.one_stdout(output, as_json)
    name = model or (registry.CODEC if pictures else registry.DRAWS)
    said = shared.require(name, "interpolate")
    if pictures and space != "noise":
        shared.require(name, "encode")
    if registry.row(said["family"]).clips:
        where = "between clips"
        shared.refuse_unused(
            context, where, "seeds", "prompts", "prompt", "seed", "space", "milliseconds", *walk_options()
        )
        _clips(name, pictures, frames, loop, output, force, device, trust, quiet, as_json, no_metadata)
        return
    if not pictures:
        shared.require(name, "sample")
        build(name, said, given)
    if (texts or (prompt and not pictures)) and not {"text", "class"} & set(said["can"]):
        raise UsageError(f"{name} takes no text or class condition")
    numbers = parse_seeds(seeds) if seeds is not None else []
    if not along and len(ends or numbers) < 2:
        raise UsageError("interpolate wants two ends or more")
    if not pictures and not along and frames < len(texts or numbers):
        raise UsageError(f"--frames {frames}: {len(texts or numbers)} ends, each of which is a frame; ask for as many")
    if output == "":
        raise UsageError("-o: empty; give a file name, a folder, or -")
    out = output or str(names.unique([Path("interpolation.png")])[0])
    if Path(out).suffix.lower() == ".gif" and (shown := names.hundredths(milliseconds)) != milliseconds:
        shared.remark(f"genctl: a GIF counts in hundredths of a second: --ms {shown}", quiet)
    target = Size.of(said["pixels"]) if space == "noise" or registry.row(said["family"]).own_size else None
    images = _read(pictures, target, frames, lambda line: shared.remark(line, quiet))
    size = images[0].size if images else Size.of(said["pixels"]).wide
    paths = _paths(out, frames, size, force)
    if images:
        shared.remark_large(pictures[0], *size)
    chosen = shared.model_of(name, device, quiet, trust)
    if images and chosen.space_of(space) == "code":
        shared.refuse_unused(context, "between the codes of pictures", "steps", "prompt")
    elif not images:
        _remark(chosen, given, texts or [prompt], quiet)
    ends_of: dict[str, Any] = {"prompts": texts or None, "seeds": numbers or None, "prompt": prompt, "seed": seed}
    drawn = chosen.interpolate(*images, frames=frames, space=space, loop=loop, **ends_of, **given)
    document = None if no_metadata else drawn[0].document
    _put_out(drawn, paths, milliseconds, document, as_json, force)


def _clips(
    name: str, ends: list[str], frames: int, loop: bool, output: str | None, force: bool, device: str, trust: bool,
    quiet: bool, as_json: bool, no_metadata: bool,
) -> None:  # fmt: skip
    """One clip that goes over from each end to the next."""
    if len(ends) < 2:
        raise UsageError("interpolate wants two ends or more")
    if frames < len(ends):
        raise UsageError(f"--frames {frames}: {len(ends)} ends; ask for as many frames")
    stream = names.stream_of(output)
    paths = [] if stream else names.plan(output, [names.Result(0, 0, "interpolation", name, clip=True)], force)
    made = shared.model_of(name, device, quiet, trust).between_clips(*ends, frames=frames, loop=loop)
    path = put_out(made, paths[0] if paths else None, None if no_metadata else made.document, force, stream)
    if path is not None:
        shared.result(path, as_json, made.document)


def _remark(model: Model, given: dict[str, Any], texts: list[str], quiet: bool) -> None:
    """What a person should know before this is drawn."""
    from genctl.families.base import Request

    _, options = build(model.name, model.document, given)
    for line in model.family.remarks(Request(seeds=[0], conditions=[*texts], options=options)):
        shared.remark(f"genctl: {line}", quiet)


def _refuse_unused(context: typer.Context, pictures: bool, prompts: bool, along: bool, output: str | None) -> None:
    if pictures:
        unused = [name for name in walk_options() if name not in PICTURES]
        shared.refuse_unused(context, "between pictures", "seed", *unused)
    else:
        if not along:
            shared.refuse_unused(context, *(("with --prompts", "prompt") if prompts else ("with --seeds", "seed")))
        shared.refuse_unused(context, "but between pictures", "space")
    if "{" in (output or "") or Path(output or "").suffix.lower().removeprefix(".") not in ANIMATED:
        shared.refuse_unused(context, "without a GIF or WebP (-o walk.gif)", "milliseconds")


def _paths(out: str, frames: int, size: tuple[int, int], force: bool) -> list[Path]:
    from genctl.media import sheet, write
    from genctl.media.pictures import MOST_TOGETHER

    total = frames * size[0] * size[1]
    if total > MOST_TOGETHER:
        what = f"pictures of {size[0]} x {size[1]} are {total / 1e6:,.0f} megapixels"
        raise UsageError(f"--frames {frames}: {what}, and at most {MOST_TOGETHER // 1_000_000} fit; ask for fewer")
    if out == "-":
        write.refuse_terminal()
        return []
    if out.startswith("-."):
        raise UsageError(f"-o {out}: of clips; -o - streams a walk's frames as PNG after PNG, or give a file")
    if out.endswith("/") or Path(out).is_dir() or "{" in out:
        template = out if "{" in out else str(Path(out) / f"{{i:0{len(str(frames - 1))}d}}.png")
        return names.plan(template, [names.Result(i) for i in range(frames)], force)
    form = names.format_of(Path(out))
    if form in ANIMATED:
        write.refuse_size(form, *size)
    else:
        sheet.refuse(form, frames, sheet.Layout(frames, 1), size)
    names.check_writable(Path(out), force)
    return [Path(out)]


def _read(sources: list[str], target: Size | None, frames: int, remark: Callable[[str], None]) -> list[Image]:
    """The pictures, all fitted to this size, or to the first one's. Raises UsageError for more of them than frames."""
    from genctl.media.pictures import crops, fit, read_picture
    from genctl.media.stream import pictures_from

    images: list[Image] = []
    for source, data in pictures_from(sources):
        if len(images) == frames:
            raise UsageError(f"--frames {frames}: more pictures than that, each of which is a frame; ask for as many")
        image = read_picture(data, source, remark)
        size = target.wide if target else images[0].size if images else image.size
        if not LEAST_SIDE <= min(size) <= max(size) <= MOST_SIDE:
            what = f"{size[0]} x {size[1]} pixels, and all pictures are fitted to the first one's size"
            raise InputError(f"{source}: {what}; give one with sides of {LEAST_SIDE} to {MOST_SIDE} first")
        if crops(image, Size(*size)):
            whose = "that the model draws" if target else "of the first picture"
            remark(f"{source}: its middle alone, in the proportions {whose} ({size[0]}x{size[1]})")
        images.append(fit(image, Size(*size)))
    return images


def _put_out(
    drawn: Pictures, paths: list[Path], milliseconds: int, document: dict[str, Any] | None, as_json: bool, force: bool
) -> None:
    """A strip, an animation, a folder of frames or a stream."""
    from genctl.media import write
    from genctl.media.sheet import Layout, compose
    from genctl.writing import write_new

    if len(paths) != 1:
        for index, picture in enumerate(drawn):
            path = put_out(picture, paths[index] if paths else None, document, force)
            if path is not None:
                shared.result(path, as_json, {"i": index} | picture.document)
        return
    form = names.format_of(paths[0])
    if form in ANIMATED:
        made = write_new(paths[0], write.encode_animation([*drawn], form, milliseconds, document), force)
    else:
        made = write.write_picture(paths[0], compose([*drawn], Layout(len(drawn), 1)), document, force)
    shared.result(named(paths[0], made), as_json, drawn[0].document)
