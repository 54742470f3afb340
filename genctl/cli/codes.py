"""genctl encode, genctl decode: pictures to codes and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genctl.cli import shared
from genctl.cli.output import named, put_out
from genctl.errors import GenctlError, InputError, ModelError, UsageError
from genctl.families import registry
from genctl.media import names

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from genctl.media.stream import Source
    from genctl.model import Model

CODES = ".safetensors"
MOST_SQUARE = 6144  # pixels of a side


def encode(
    context: typer.Context,
    pictures: Annotated[list[str], typer.Argument(help="Pictures, folders, or - for a PNG stream on stdin.")],
    model: shared.Model = registry.CODEC,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="File, template ({i}; {prompt}: the picture's name), folder/ or -."),
    ] = None,
    force: shared.Force = False,
    skip_existing: shared.SkipExisting = False,
    size: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_SQUARE, help="Crop to this square first (else as large as it is)."),
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="code (of the codec) or noise (the one that draws the picture; flows).")
    ] = None,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="For noise: what the picture shows.")] = "",
    steps: Annotated[int | None, typer.Option(help="For noise: solver steps.", min=1, max=1000)] = None,
    device: shared.Device = "auto",
    trust: shared.Trust = False,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Turn pictures into codes: genctl encode a.png -o a.safetensors."""
    from genctl.media.stream import listed, pictures_from
    from genctl.media.write import refuse_terminal, write_stdout

    shared.one_stdout(output, as_json)
    if skip_existing and (output in (None, "-") or force):
        raise UsageError("--skip-existing needs -o FILE or -o folder/, for the same names again, and no -f")
    if space is not None:
        shared.one_of("--space", space, registry.SPACES)
    shared.require(model, "encode")
    if output not in (None, "-") and Path(str(output)).suffix != CODES and not str(output).endswith("/"):
        raise UsageError(f"-o {output}: codes end in {CODES}; give such a name, a folder/, or -")
    if output == "-":
        refuse_terminal()
    for source in pictures:
        shared.remark_left_out(source, quiet)
    work = Encoding(model, size, space, prompt, steps, device, trust, quiet, context)
    if output == "-":
        for name, data in pictures_from(pictures):
            write_stdout(work.document(name, data))
        return
    sources = listed(pictures)
    paths = _code_paths(output, sources, model, force or skip_existing)
    if len(paths) < len(sources):  # one file may hold several documents, one after another
        _write(paths[0], b"".join(work.document(source.name, source.load()) for source in sources), as_json, force)
        return
    _encode_each(work, sources, paths, force, skip_existing, as_json)


def _encode_each(
    work: Encoding, sources: list[Source], paths: list[Path], force: bool, skip_existing: bool, as_json: bool
) -> None:
    """A file a picture. Of several pictures a bad one is named and left out, and its error is what the command ends
    with."""
    bad: list[GenctlError] = []
    there = [skip_existing and path.exists() for path in paths]
    if any(there):
        shared.remark(f"{sum(there)} of {len(there)} exist already, left as they are", work.quiet)
    for source, path, exists in zip(sources, paths, there, strict=True):
        if exists:
            continue
        try:
            document = work.document(source.name, source.load())
        except InputError as error:
            if len(sources) == 1:
                raise
            bad.append(error)
            shared.remark(f"genctl: left out: {error}")
            continue
        _write(path, document, as_json, force)
    if bad:
        raise InputError(f"{len(bad)} of {len(sources)} pictures were left out, the first: {bad[0]}")


def _code_paths(output: str | None, sources: list[Source], model: str, force: bool) -> list[Path]:
    """One path a picture, or one for all. Pictures of a folder keep their places below it; of two that would have one
    name the second gets a number."""
    inside = [source.inside.with_suffix(CODES) for source in sources]
    if output is None:
        return names.unique(inside)
    if output == "":
        raise UsageError("-o: empty; give a file name, a folder, or -")
    results = [names.Result(i, i, path.stem, model) for i, path in enumerate(inside)]
    filled = [Path(names.fill(output, result)) for result in results]
    if output.endswith("/") or Path(output).is_dir():
        paths = names.unique_within(folder / path for folder, path in zip(filled, inside, strict=True))
    else:
        paths = filled[:1] if len(set(filled)) == 1 else names.unique_within(filled)
    for path in paths:
        names.check_writable(path, force, names.SKIPS if len(paths) > 1 else "")
    return paths


@dataclass
class Encoding:
    """What one command encodes by; its model is loaded for the first picture that can be read."""

    name: str
    size: int | None
    space: str | None
    prompt: str
    steps: int | None
    device: str
    trust: bool
    quiet: bool
    context: typer.Context
    model: Model | None = None

    def document(self, name: str, data: bytes) -> bytes:
        """One picture's document. Raises InputError for what is no picture."""
        from genctl.media.pictures import fit, read_picture

        picture = read_picture(data, name, lambda line: shared.remark(line, self.quiet))
        picture = fit(picture, self.size) if self.size else picture
        shared.remark_large(name, *picture.size)
        self.model = self.model or shared.model_of(self.name, self.device, self.quiet, self.trust)
        return self._encoded(self.model, picture, name)

    def _encoded(self, model: Model, picture: Image, name: str) -> bytes:
        """Says what a round trip through noise loses."""
        if model.space_of(self.space) == "code":
            shared.refuse_unused(self.context, "for codes (they are for --space noise)", "prompt", "steps")
        elif picture.width * model.family.pixels.height != picture.height * model.family.pixels.width:
            shared.remark(f"{name}: its middle alone, in the proportions that the model draws", self.quiet)
        codes = model.encode(picture, self.space, self.prompt, self.steps)
        if "round_trip_db" in codes.info:
            lost = f"{codes.info['round_trip_db']:.1f} dB after the round trip to noise and back"
            shared.remark(f"{name}: {lost}", self.quiet)
        return codes.packed()


def _write(path: Path, data: bytes, as_json: bool, force: bool) -> None:
    from genctl.writing import write_new

    shared.result(named(path, write_new(path, data, force)), as_json)


def decode(
    codes: Annotated[str, typer.Argument(help="Code file written by encode, or - for stdin.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Decode with this instead of the model named within.")
    ] = None,
    output: shared.Output = None,
    force: shared.Force = False,
    device: shared.Device = "auto",
    trust: shared.Trust = False,
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
        paths = _picture_paths(
            output, "decoded" if codes == "-" else Path(codes).stem, [info for _, info in listed], force
        )
    models: dict[str, Model] = {}
    for index, (tensor, info) in enumerate(listed):
        shared.remark_large(codes, *reversed(info.get("pixels") or (0, 0)))
        decoder = _decoder(model or str(info.get("model", "")), info, models, device, trust, given=model is not None)
        picture = decoder.decode(Codes(tensor, info), codes)
        said = None if no_metadata else picture.document
        path = put_out(picture, paths[index] if paths else None, said, force)
        if path is not None:
            shared.result(path, as_json, {"i": index} | picture.document)


def _picture_paths(output: str | None, stem: str, infos: list[dict[str, Any]], force: bool) -> list[Path]:
    """One path a document: without any output the codes' own name, and where there is such a picture a number."""
    if output is None:
        return names.unique(Path(f"{stem}-{i}.png" if len(infos) > 1 else f"{stem}.png") for i in range(len(infos)))
    results = [names.Result(i, i, stem, str(info.get("model", ""))) for i, info in enumerate(infos)]
    return names.plan(output, results, force)


def _documents(source: str) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    from genctl.media.codes import read_codes
    from genctl.media.stream import codes_from

    for name, data in codes_from(source):
        yield read_codes(data, name)


def _decoder(name: str, info: dict[str, Any], models: dict[str, Model], device: str, trust: bool, given: bool) -> Model:
    """The model that decodes; it must be the one that encoded, unless another was named on the command line."""
    if name not in models:
        if not name:
            raise InputError("these codes name no model; give --model")
        if not given and (shared.hub.path_like(name) or ":" in name):
            raise InputError(f"these codes name the model {name!r}; give it with --model if you trust it")
        shared.require(name, "decode")
        models[name] = shared.model_of(name, device, trust=trust)
    model = models[name]
    if not given and info.get("sha256") not in (None, model.family.weights_sha256):
        raise ModelError(
            f"{name}: not the model that made these codes (weights {str(info['sha256'])[:12]}, "
            f"here {model.family.weights_sha256[:12]}); --model {name} decodes with it all the same"
        )
    return model
