"""genctl encode, genctl decode: pictures to codes and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genctl.cli import shared
from genctl.cli.output import put_out
from genctl.errors import InputError, ModelError, UsageError
from genctl.families import registry
from genctl.media import names

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from genctl.model import Model

CODES = ".safetensors"


def encode(
    context: typer.Context,
    pictures: Annotated[list[str], typer.Argument(help="Pictures, folders, or - for a PNG stream on stdin.")],
    model: shared.Model = registry.CODEC,
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
        shared.one_of("--space", space, registry.SPACES)
    shared.require(model, "encode")
    if output not in (None, "-") and Path(str(output)).suffix != CODES and not str(output).endswith("/"):
        raise UsageError(f"-o {output}: codes end in {CODES}; give such a name, a folder/, or -")
    if output == "-":
        refuse_terminal()
    for source in pictures:
        shared.remark_left_out(source, quiet)
    sources = list(pictures_from(pictures)) if output != "-" else pictures_from(pictures)
    paths = _code_paths(output, sources, model, force) if isinstance(sources, list) else []
    chosen: Model | None = None
    together: list[bytes] = []
    for index, (name, data) in enumerate(sources):
        picture = _picture(data, name, size)
        shared.remark_large(name, *picture.size)
        chosen = chosen or shared.model_of(model, device, quiet)
        document = _encode(chosen, picture, name, space, prompt, steps, quiet, context)
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


def _picture(data: bytes, name: str, size: int | None) -> Image:
    from genctl.media.pictures import fit, read_picture

    image = read_picture(data, name)
    return fit(image, size) if size else image


def _encode(
    model: Model, picture: Image, name: str, space: str | None, prompt: str, steps: int | None, quiet: bool,
    context: typer.Context,
) -> bytes:  # fmt: skip
    """One picture's document. Says what a round trip through noise loses."""
    if model.space_of(space) == "code":
        shared.refuse_unused(context, "for codes (they are for --space noise)", "prompt", "steps")
    elif picture.width * model.family.pixels.height != picture.height * model.family.pixels.width:
        shared.remark(f"{name}: its middle alone, in the proportions that the model draws", quiet)
    codes = model.encode(picture, space, prompt, steps)
    if "round_trip_db" in codes.info:
        shared.remark(f"{name}: {codes.info['round_trip_db']:.1f} dB after the round trip to noise and back", quiet)
    return codes.packed()


def _write(path: Path, data: bytes, as_json: bool) -> None:
    from genctl.writing import write_whole

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
    from genctl.model import Codes

    shared.one_stdout(output, as_json)
    documents = _documents(codes)
    stream = output == "-"
    listed = documents if stream else list(documents)
    paths: list[Path] = []
    if isinstance(listed, list):
        stem = "decoded" if codes == "-" else Path(codes).stem
        results = [names.Result(i, i, stem, str(info.get("model", ""))) for i, (_, info) in enumerate(listed)]
        paths = names.plan(output or f"{stem}{'-{i}' if len(listed) > 1 else ''}.png", results, force)
    models: dict[str, Model] = {}
    for index, (tensor, info) in enumerate(listed):
        shared.remark_large(codes, *reversed(info.get("pixels") or (0, 0)))
        decoder = _decoder(model or str(info.get("model", "")), info, models, device, given=model is not None)
        picture = decoder.decode(Codes(tensor, info), codes)
        put_out(picture, paths[index] if paths else None, None if no_metadata else picture.document)
        if paths:
            shared.result(paths[index], as_json, {"i": index} | picture.document)


def _documents(source: str) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    from genctl.media.codes import read_codes
    from genctl.media.stream import codes_from

    for name, data in codes_from(source):
        yield read_codes(data, name)


def _decoder(name: str, info: dict[str, Any], models: dict[str, Model], device: str, given: bool) -> Model:
    """The model that decodes; it must be the one that encoded, unless another was named on the command line."""
    if name not in models:
        if not name:
            raise InputError("these codes name no model; give --model")
        if not given and (shared.hub.path_like(name) or ":" in name):
            raise InputError(f"these codes name the model {name!r}; give it with --model if you trust it")
        shared.require(name, "decode")
        models[name] = shared.model_of(name, device)
    model = models[name]
    if not given and info.get("sha256") not in (None, model.family.weights_sha256):
        raise ModelError(
            f"{name}: not the model that made these codes (weights {str(info['sha256'])[:12]}, "
            f"here {model.family.weights_sha256[:12]}); --model {name} decodes with it all the same"
        )
    return model
