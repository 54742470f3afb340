"""genctl encode, genctl decode: pictures to codes and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genctl.cli import shared
from genctl.errors import InputError, ModelError, UsageError
from genctl.media import names

if TYPE_CHECKING:
    from torch import Tensor

    from genctl.families.base import Family

CODES = ".safetensors"


def encode(
    context: typer.Context,
    pictures: Annotated[list[str], typer.Argument(help="Pictures, folders, or - for a PNG stream on stdin.")],
    model: shared.Model = "vae",
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="File, template ({i}; {prompt}: the picture's name), folder/ or -."),
    ] = None,
    force: shared.Force = False,
    size: Annotated[
        int | None, typer.Option(min=1, help="Crop to this square first (default: the picture's own size).")
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="code (of the codec) or noise (the one that draws the picture; flows).")
    ] = None,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="For noise: what the picture shows.")] = "",
    steps: Annotated[int | None, typer.Option(help="For noise: solver steps.", min=1, max=1000)] = None,
    device: shared.Device = "auto",
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Turn pictures into codes: genctl encode a.png -o a.safetensors."""
    from genctl.media.stream import pictures_from
    from genctl.media.write import refuse_terminal, write_stdout

    shared.one_stdout(output, as_json)
    if space is not None:
        shared.one_of("--space", space, shared.SPACES)
    shared.require(model, "encode")
    if output not in (None, "-") and Path(str(output)).suffix != CODES and not str(output).endswith("/"):
        raise UsageError(f"-o {output}: codes end in {CODES}; give such a name, a folder/, or -")
    if output == "-":
        refuse_terminal()
    sources = list(pictures_from(pictures)) if output != "-" else pictures_from(pictures)
    paths = _code_paths(output, sources, model, force) if isinstance(sources, list) else []
    family = None
    together: list[bytes] = []
    for index, (name, data) in enumerate(sources):
        picture = _picture(data, name, size)
        shared.remark_large(name, picture.shape[2], picture.shape[1])
        family = family or shared.load(model, device, quiet)
        if shared.space_of(family, space) == "code":
            shared.refuse_unused(context, "for codes (they are for --space noise)", "prompt", "steps")
        if shared.space_of(family, space) == "noise":
            document = _invert(family, model, picture, name, prompt, steps, quiet)
        else:
            document = _encode(family, model, picture)
        if output == "-":
            write_stdout(document)
        elif len(paths) == 1:  # one file may hold several documents, one after another
            together.append(document)
        else:
            _write(paths[index], document, as_json)
    if together:
        _write(paths[0], b"".join(together), as_json)


def _code_paths(output: str | None, sources: list[tuple[str, bytes]], model: str, force: bool) -> list[Path]:
    """One path a picture, or one for all."""
    stems = [Path(name).stem if name[:5] != "stdin" else "codes" for name, _ in sources]
    if output is None:
        return names.unique([Path(stem + CODES) for stem in stems])
    paths = [Path(names.fill(output, names.Result(i, i, stem, model))) for i, stem in enumerate(stems)]
    if output.endswith("/") or Path(output).is_dir():
        paths = list(names.unique_within(path / (stem + CODES) for path, stem in zip(paths, stems, strict=True)))
    elif len(set(paths)) == 1:
        paths = paths[:1]
    names.refuse_collisions(output, paths, "a folder")
    for path in paths:
        names.check_writable(path, force)
    return paths


def _picture(data: bytes, name: str, size: int | None) -> Tensor:
    from genctl.media.pictures import fit, read_picture, to_float, to_tensor

    image = read_picture(data, name)
    return to_float(to_tensor(fit(image, size) if size else image))


def _invert(
    family: Family, model: str, picture: Tensor, name: str, prompt: str, steps: int | None, quiet: bool
) -> bytes:
    """One picture's noise document; the picture is cropped to the model's square. Says what the round trip loses."""
    from genctl.media.codes import pack_codes
    from genctl.media.pictures import fit, to_float, to_image, to_tensor
    from genctl.metrics.distance import psnr

    if picture.shape[1] != picture.shape[2]:
        shared.remark(f"{name}: cropped to the middle square, which is what the model draws", quiet)
    square = to_float(to_tensor(fit(to_image(picture), family.pixels)))[None]
    noise = family.invert(square, prompt, steps)
    back = float(psnr(family.from_noise(noise, prompt, steps).cpu(), square)[0])
    shared.remark(f"{name}: {back:.1f} dB after the round trip to noise and back", quiet)
    info: dict[str, Any] = {"space": "noise", "prompt": prompt, "steps": steps, "round_trip_db": round(back, 2)}
    return pack_codes(noise[0].cpu(), _named(family, model) | info | {"axes": "channels, height, width"})


def _named(family: Family, model: str) -> dict[str, Any]:
    return {"model": Path(model).stem if shared.hub.path_like(model) else model, "sha256": family.weights_sha256}


def _encode(family: Family, model: str, picture: Tensor) -> bytes:
    """One picture's code document; sides that the codec cannot take are padded with white, and noted."""
    from genctl.media.codes import pack_codes
    from genctl.media.pictures import pad_to

    padded = pad_to(picture, getattr(family, "factor", 8))
    codes = family.encode(padded[None])[0]
    info: dict[str, Any] = {"pixels": list(picture.shape[1:]), "axes": "channels, height, width"}
    return pack_codes(codes.cpu(), _named(family, model) | info)


def _write(path: Path, data: bytes, as_json: bool) -> None:
    from genctl.files import write_whole

    write_whole(path, data)
    shared.result(path, as_json)


def decode(
    codes: Annotated[str, typer.Argument(help="Code file written by encode, or - for stdin.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Decode with this instead of the model named within.")
    ] = None,
    output: shared.Output = None,
    force: shared.Force = False,
    device: shared.Device = "auto",
    as_json: shared.Json = False,
    no_metadata: shared.NoMetadata = False,
) -> None:
    """Turn codes back into pictures: genctl decode a.safetensors -o b.png."""
    from genctl.cli.sample import put_out
    from genctl.media.pictures import to_image

    shared.one_stdout(output, as_json)
    documents = _documents(codes)
    stream = output == "-"
    listed = documents if stream else list(documents)
    paths: list[Path] = []
    if isinstance(listed, list):
        stem = "decoded" if codes == "-" else Path(codes).stem
        results = [names.Result(i, i, stem, str(info.get("model", ""))) for i, (_, info) in enumerate(listed)]
        paths = names.plan(output or f"{stem}{'-{i}' if len(listed) > 1 else ''}.png", results, force)
    families: dict[str, Family] = {}
    for index, (tensor, info) in enumerate(listed):
        shared.remark_large(codes, *reversed(info.get("pixels") or (0, 0)))
        family = _decoder(model or str(info.get("model", "")), info, families, device, given=model is not None)
        picture = _decode(family, tensor, info, codes)
        height, width = info.get("pixels") or picture.shape[1:]
        facts = {"task": "decode", "size": f"{width}x{height}"}
        document = None if no_metadata else shared.made_by(family, str(info.get("model", model)), **facts)
        put_out(to_image(picture[:, :height, :width]), paths[index] if paths else None, document, as_json, i=index)


def _decode(family: Family, tensor: Tensor, info: dict[str, Any], name: str) -> Tensor:
    """The picture [3, H, W] of codes or, where the document says so, of noise."""
    shape = list(tensor.shape)
    if shared.space_of(family, info.get("space", family.spaces[0])) == "noise":
        if tuple(shape) != family.noise_shape():
            raise InputError(f"{name}: noise of shape {shape}, where the model wants {list(family.noise_shape())}")
        steps = info.get("steps")
        if steps is not None and not (type(steps) is int and 1 <= steps <= 1000):
            raise InputError(f"{name}: says {steps!r} steps of itself, which cannot be")
        return family.from_noise(tensor[None], str(info.get("prompt", "")), steps)[0]
    channels = getattr(family.config, "channels", None) or family.config.net.latent
    if tensor.ndim != 3 or shape[0] != channels:
        raise InputError(f"{name}: codes of shape {shape}, where the model wants [{channels}, h, w]")
    return family.decode(tensor[None])[0]


def _documents(source: str) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    from genctl.media.codes import read_codes
    from genctl.media.stream import codes_from

    for name, data in codes_from(source):
        yield read_codes(data, name)


def _decoder(name: str, info: dict[str, Any], families: dict[str, Family], device: str, given: bool) -> Family:
    """The model that decodes; it must be the one that encoded, unless another was named on the command line."""
    if name not in families:
        if not name:
            raise InputError("these codes name no model; give --model")
        if not given and (shared.hub.path_like(name) or ":" in name):
            raise InputError(f"these codes name the model {name!r}; give it with --model if you trust it")
        shared.require(name, "decode")
        families[name] = shared.load(name, device)
    family = families[name]
    if not given and info.get("sha256") not in (None, family.weights_sha256):
        raise ModelError(
            f"{name}: not the model that made these codes (weights {str(info['sha256'])[:12]}, "
            f"here {family.weights_sha256[:12]}); --model {name} decodes with it all the same"
        )
    return family
