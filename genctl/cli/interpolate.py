"""genctl interpolate: between pictures, seeds or prompts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genctl.cli import asked, shared
from genctl.errors import InputError, UsageError
from genctl.media import names

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from genctl.families.base import Family

ANIMATED = ("gif", "webp")
LEAST_SIDE = 8  # pixels: one cell of the shipped codec
MOST_PIXELS = 256_000_000  # of all frames; they are in the memory together, three numbers a pixel


def interpolate(
    context: typer.Context,
    ends: Annotated[list[str] | None, typer.Argument(help="Two pictures or more; with --prompts, prompts.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Default: vae for pictures, ldm otherwise.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Between seeds, such as 1,2,3.")] = None,
    prompts: Annotated[bool, typer.Option("--prompts", help="The ends are prompts: --prompts cat dog.")] = False,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="The prompt while seeds change.")] = "",
    seed: Annotated[int, typer.Option("--seed", "-s", help="The seed while prompts change.")] = 0,
    cfg: Annotated[float | None, typer.Option("--cfg", help="Guidance scale.")] = None,
    steps: Annotated[int | None, typer.Option(help="Solver steps.", min=1)] = None,
    space: Annotated[
        str | None,
        typer.Option(help="Between pictures: by way of their code, or of the noise that draws them (flows)."),
    ] = None,
    frames: Annotated[int, typer.Option(help="Pictures in all, both ends included.", min=2)] = 9,
    milliseconds: Annotated[int, typer.Option("--ms", help="Of a frame in a GIF or WebP.", min=10)] = 80,
    output: shared.Output = None,
    force: shared.Force = False,
    device: shared.Device = "auto",
    as_json: shared.Json = False,
    no_metadata: shared.NoMetadata = False,
) -> None:
    """Walk between pictures (or --seeds, --prompts): a strip (.png), a GIF or WebP, or a folder/ of frames."""
    texts, pictures = (ends or [], []) if prompts else ([], ends or [])
    if bool(ends) == (seeds is not None) or (prompts and not ends):
        raise UsageError("give pictures (a.png b.png), --prompts cat dog, or --seeds 1,2: one of the three")
    if space is not None:
        shared.one_of("--space", space, shared.SPACES)
    _refuse_unused(context, bool(pictures), prompts, output)
    shared.one_stdout(output, as_json)
    shared.finite("--cfg", cfg)
    name = model or ("vae" if pictures else "ldm")
    said = shared.require(name, "interpolate")
    if (texts or (prompt and not pictures)) and not {"text", "class"} & set(said["can"]):
        raise UsageError(f"{name} takes no text or class condition")
    pixels = said["pixels"]
    if seeds is None and len(ends or []) < 2:
        raise UsageError("interpolate wants two ends or more")
    out = output or str(names.unique([Path("interpolation.png")])[0])
    images = _read(pictures)
    size = images[0].size if images and space != "noise" else (pixels, pixels)
    paths = _paths(out, frames, size, force)
    if images:
        shared.remark_large(pictures[0], *size)
        family = shared.load(name, device)
        space = shared.space_of(family, space)
        if space == "code":
            shared.refuse_unused(context, "between the codes of pictures", "steps", "prompt")
        drawn = _between_pictures(family, images, space, prompt, steps, frames)
    else:
        drawn, family = _between_draws(name, seeds, texts, prompt, seed, cfg, steps, frames, device)
    facts = {"task": "interpolate", "frames": frames, "prompt": prompt or " -> ".join(texts), "seeds": seeds}
    facts |= {"space": space, "steps": steps, "guidance_scale": cfg, "seed": seed if texts else None}
    document = None if no_metadata else shared.made_by(family, name, **facts)
    _put_out(drawn, paths, out, milliseconds, document, as_json)


def _refuse_unused(context: typer.Context, pictures: bool, prompts: bool, output: str | None) -> None:
    if pictures:
        shared.refuse_unused(context, "between pictures", "cfg", "seed")
    else:
        shared.refuse_unused(context, *(("with --prompts", "prompt") if prompts else ("with --seeds", "seed")))
        shared.refuse_unused(context, "but between pictures", "space")
    if Path(output or "").suffix.lower().removeprefix(".") not in ANIMATED:
        shared.refuse_unused(context, "without a GIF or WebP (-o walk.gif)", "milliseconds")


def _paths(out: str, frames: int, size: tuple[int, int], force: bool) -> list[Path]:
    from genctl.media import write

    total = frames * size[0] * size[1]
    if total > MOST_PIXELS:
        what = f"pictures of {size[0]} x {size[1]} are {total / 1e6:,.0f} megapixels"
        raise UsageError(f"--frames {frames}: {what}, and at most {MOST_PIXELS // 1_000_000} fit; ask for fewer")
    if out == "-":
        return []
    if out.endswith("/") or Path(out).is_dir() or "{" in out:
        template = out if "{" in out else str(Path(out) / "{i}.png")
        return names.plan(template, [names.Result(i) for i in range(frames)], force)
    form = names.format_of(Path(out))
    if form in ANIMATED:
        write.refuse_size(form, *size)
    else:
        write.refuse_sheet(form, frames, size, columns=frames)
    names.check_writable(Path(out), force)
    return [Path(out)]


def _read(sources: list[str]) -> list[Image]:
    """The pictures, all fitted to the first one's size."""
    from genctl.media.pictures import read_picture
    from genctl.media.stream import pictures_from

    images: list[Image] = []
    for source, data in pictures_from(sources):
        image = read_picture(data, source)
        size = images[0].size if images else image.size
        if min(size) < LEAST_SIDE:
            what = f"{size[0]} x {size[1]} pixels, and all pictures are fitted to the first one's size"
            raise InputError(f"{source}: {what}; give one of {LEAST_SIDE} x {LEAST_SIDE} or more first")
        images.append(image if image.size == size else image.resize(size, 1))
    return images


def _between_pictures(
    family: Family, images: list[Image], space: str, prompt: str, steps: int | None, frames: int
) -> Tensor:
    import torch

    from genctl.families.walk import between_noises, between_pictures
    from genctl.media.pictures import fit, pad_to, to_float, to_tensor

    if space == "noise":
        squares = torch.stack([to_float(to_tensor(fit(image, family.pixels))) for image in images])
        return between_noises(family, squares, frames, prompt, steps)
    tensors = [pad_to(to_float(to_tensor(image)), getattr(family, "factor", 8)) for image in images]
    width, height = images[0].size
    return between_pictures(family, torch.stack(tensors), frames)[:, :, :height, :width]


def _between_draws(
    name: str, seeds: str | None, texts: list[str], prompt: str, seed: int, cfg: float | None, steps: int | None,
    frames: int, device: str,
) -> tuple[Tensor, Family]:  # fmt: skip
    from genctl.families.walk import between_prompts, between_seeds
    from genctl.seeds import parse_seeds

    numbers = parse_seeds(seeds) if seeds is not None else []
    if len(texts or numbers) < 2:
        raise UsageError("interpolate wants two ends or more")
    family = shared.load(name, device)
    asked.remark_guidance(family, cfg, False)
    if texts:
        return between_prompts(family, texts, frames, seed, guidance_scale=cfg, steps=steps), family
    return between_seeds(family, numbers, frames, prompt, guidance_scale=cfg, steps=steps), family


def _put_out(
    drawn: Tensor, paths: list[Path], out: str, milliseconds: int, document: dict[str, Any] | None, as_json: bool
) -> None:
    """A strip, an animation, a folder of frames or a stream."""
    from genctl.cli.sample import put_out
    from genctl.files import write_whole
    from genctl.media import write
    from genctl.media.pictures import to_image

    if len(paths) != 1:
        for index, picture in enumerate(drawn):
            put_out(to_image(picture), paths[index] if paths else None, document, as_json, i=index)
        return
    form = names.format_of(paths[0])
    if form in ANIMATED:
        images = [to_image(picture) for picture in drawn]
        write_whole(paths[0], write.encode_animation(images, form, milliseconds, document))
    else:
        write.write_picture(paths[0], write.grid(drawn, columns=len(drawn)), document)
    shared.result(paths[0], as_json)
