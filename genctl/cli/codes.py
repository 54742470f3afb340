"""genctl encode, genctl decode: pictures to codes and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genctl.cli import shared
from genctl.cli.output import named, put_out
from genctl.cli.progress import Display
from genctl.errors import InputError, ModelError, UsageError
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
        typer.Option(
            min=1,
            max=MOST_SQUARE,
            help="Crop and scale to a square of this side first (default: the picture's own size).",
        ),
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="code (latents) or noise (inversion; flow models). A GAN projects (slow).")
    ] = None,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="For noise: what the picture shows.")] = "",
    steps: Annotated[int | None, typer.Option(help="For noise: solver steps.", min=1, max=1000)] = None,
    device: shared.Device = "auto",
    trust: shared.Trust = False,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Turn pictures into codes: genctl encode a.png -o a.safetensors."""
    from genctl.media.formats import ENDINGS, FILMS
    from genctl.media.stream import each, listed
    from genctl.media.write import refuse_terminal

    shared.one_stdout(output, as_json)
    if skip_existing and (output in (None, "-") or force):
        raise UsageError("--skip-existing needs -o FILE or -o folder/, for the same names again, and no -f")
    if space is not None:
        shared.one_of("--space", space, registry.SPACES)
    said = shared.require(model, "encode")
    if output not in (None, "-") and Path(str(output)).suffix != CODES and not str(output).endswith("/"):
        raise UsageError(f"-o {output}: codes end in {CODES}; give such a name, a folder/, or -")
    if output == "-":
        refuse_terminal()
    fps = (said["config"].get("fps") or 1.0) if registry.row(said["family"]).clips else None
    films = FILMS if fps is not None else ()
    for source in pictures:
        shared.remark_left_out(source, quiet, *films)
    work = Encoding(model, size, space, prompt, steps, device, trust, quiet, context, fps)
    if output == "-":
        work.stream(source for named in pictures for source in each(named, (*ENDINGS, *films)))
        return
    sources = listed(pictures, (*ENDINGS, *films))
    paths = _code_paths(output, sources, model, force or skip_existing)
    there = [skip_existing and path.exists() for path in paths]
    if any(there):
        shared.remark(f"{sum(there)} of {len(there)} exist already, left as they are", quiet)
    if len(paths) == len(sources):
        jobs = [(source, path) for source, path, exists in zip(sources, paths, there, strict=True) if not exists]
        work.to_files(jobs, as_json, force)
    elif not all(there):
        work.to_one_file(sources, paths[0], as_json, force)


def _code_paths(output: str | None, sources: list[Source], model: str, force: bool) -> list[Path]:
    """One path a picture, or one for all where the name has no field that differs. Pictures of a folder keep their
    places below it; of two that would have one name the second gets a number."""
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
        paths = names.unique_within(filled) if re.search(r"\{(i|seed|prompt)[:}]", output) else filled[:1]
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
    fps: float | None = None  # of a model of clips
    model: Model | None = None
    seen: int = 0  # pictures
    named: int = 0  # bad ones that were said
    bad: list[InputError] = field(default_factory=list)

    def stream(self, sources: Iterable[Source]) -> None:
        """Each picture's document to stdout as soon as it is there."""
        from genctl.media.write import write_stdout

        for _, document in self.documents((source, None) for source in sources):
            write_stdout(document)
        self.end()

    def to_files(self, jobs: list[tuple[Source, Path]], as_json: bool, force: bool) -> None:
        """A file a picture."""
        for path, document in self.documents(jobs):
            _write(path, document, as_json, force)
        self.end()

    def to_one_file(self, sources: list[Source], path: Path, as_json: bool, force: bool) -> None:
        """One file of several documents, one after another."""
        made = b"".join(document for _, document in self.documents((source, None) for source in sources))
        if made:
            _write(path, made, as_json, force)
        self.end()

    def documents(self, jobs: Iterable[tuple[Source, Any]]) -> Iterator[tuple[Any, bytes]]:
        """(what came with it, its document) of each picture that can be read. A bad one is named and left out."""
        for source, what in jobs:
            self.seen += 1
            try:
                document = self.document(source.name, source.load())
            except InputError as error:
                self.bad.append(error)
                if self.seen > 1:
                    self.name_bad()
                continue
            self.name_bad()
            yield what, document

    def name_bad(self) -> None:
        """Say the bad pictures that were not said yet: a single one is the command's own error."""
        for error in self.bad[self.named :]:
            shared.remark(f"genctl: left out: {error}")
        self.named = len(self.bad)

    def end(self) -> None:
        """Raise InputError where pictures were bad: what the command ends with."""
        if self.bad and self.seen == 1:
            raise self.bad[0]
        if self.bad:
            raise InputError(f"{len(self.bad)} of {self.seen} pictures were left out, the first: {self.bad[0]}")

    def document(self, name: str, data: bytes) -> bytes:
        """One picture's document. Raises InputError for what is no picture."""
        from genctl.media.pictures import fit, read_picture, refuse_large

        if self.fps is not None:
            return self._of_clip(name, data, self.fps)
        picture = read_picture(data, name, lambda line: shared.remark(line, self.quiet))
        picture = fit(picture, self.size) if self.size else picture
        refuse_large(*picture.size, name)
        shared.remark_large(name, *picture.size)
        self.model = self.model or shared.model_of(self.name, self.device, self.quiet, self.trust)
        return self._encoded(self.model, picture, name)

    def _of_clip(self, name: str, data: bytes, fps: float) -> bytes:
        from genctl.media.clips import read_clip
        from genctl.media.pictures import fit

        size = self.size
        frames = read_clip(
            data, name, fps, (lambda frame: fit(frame, size)) if size else (lambda frame: frame),
            remark=lambda line: shared.remark(line, self.quiet),
        )  # fmt: skip
        shared.refuse_unused(self.context, "for clips", "prompt", "steps")
        self.model = self.model or shared.model_of(self.name, self.device, self.quiet, self.trust)
        self.model.space_of(self.space)
        return self.model.encode_clip(frames).packed()

    def _encoded(self, model: Model, picture: Image, name: str) -> bytes:
        """Says what a round trip through noise loses."""
        space = model.space_of(self.space)
        if space == "code":
            shared.refuse_unused(self.context, "for codes (they are for --space noise)", "prompt", "steps")
        wanted = model.family.pixels
        if model.fitted(space) and picture.width * wanted.height != picture.height * wanted.width:
            shared.remark(f"{name}: its middle alone, in the proportions that the model draws", self.quiet)
        with Display("auto", self.quiet) as display:
            model.family.watch = display.event
            codes = model.encode(picture, self.space, self.prompt, self.steps)
        if "round_trip_db" in codes.info:
            where = "noise" if space == "noise" else "its code"
            lost = f"{codes.info['round_trip_db']:.1f} dB after the round trip to {where} and back"
            seen = codes.info.get("round_trip_lpips")
            shared.remark(f"{name}: {lost}{'' if seen is None else f', LPIPS {seen:.3f}'}", self.quiet)
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
    stream = names.stream_of(output)
    wrong: list[InputError] = []
    listed = documents if stream == "frames" else list(_whole(documents, wrong))
    if isinstance(listed, list) and stream is not None:
        _one_clip(output, listed)
    paths: list[Path] = []
    if isinstance(listed, list) and stream is None:
        paths = _picture_paths(output, "decoded" if codes == "-" else Path(codes).stem, listed, force)
    models: dict[str, Model] = {}
    for index, (tensor, info) in enumerate(listed):
        decoder = _decoder(model or str(info.get("model", "")), info, models, device, trust, given=model is not None)
        _refuse_cells(tensor, decoder, codes)
        picture = decoder.decode(Codes(tensor, info), codes)
        said = None if no_metadata else picture.document
        path = put_out(picture, paths[index] if paths else None, said, force, stream)
        if path is not None:
            shared.result(path, as_json, {"i": index} | picture.document)
    if wrong:
        raise wrong[0]


def _whole(
    documents: Iterator[tuple[Tensor, dict[str, Any]]], wrong: list[InputError]
) -> Iterator[tuple[Tensor, dict[str, Any]]]:  # fmt: skip
    """The documents before one that is damaged, which `wrong` gets. Raises InputError where that is the first."""
    yield next(documents)
    try:
        yield from documents
    except InputError as error:
        wrong.append(error)


def _one_clip(output: str | None, listed: list[tuple[Tensor, dict[str, Any]]]) -> None:
    """Raise UsageError where what is decoded is not one clip."""
    if len(listed) != 1 or not _moves(listed[0][0]):
        raise UsageError(f"-o {output}: for the codes of one clip; -o - streams PNG after PNG")


def _moves(codes: Tensor) -> bool:
    """Whether codes are a clip's, of more than one frame."""
    return codes.dim() == 4 and codes.shape[1] > 1


def _refuse_cells(codes: Tensor, model: Model, name: str) -> None:
    """Raise InputError for codes [C, h, w] or [C, t, h, w] of too large a picture; say that one takes a while."""
    from genctl.media.pictures import refuse_large, refuse_many

    height, width = (model.family.factor * cells for cells in codes.shape[-2:]) if codes.dim() in (3, 4) else (0, 0)
    refuse_large(width, height, name)
    if codes.dim() == 4:
        refuse_many(1 + model.family.period * (codes.shape[1] - 1), width, height, name)
    shared.remark_large(name, width, height)


def _picture_paths(output: str | None, stem: str, documents: list[Any], force: bool) -> list[Path]:
    """One path a document: without any output the codes' own name, and where there is such a picture a number."""
    clips = [_moves(codes) for codes, _ in documents]
    if output is None:
        numbers = [f"-{i}" if len(documents) > 1 else "" for i in range(len(documents))]
        own = [f"{stem}{number}{'.webp' if clip else '.png'}" for number, clip in zip(numbers, clips, strict=True)]
        return names.unique(map(Path, own))
    results = [
        names.Result(i, i, stem, str(info.get("model", "")), clip=clip)
        for i, ((_, info), clip) in enumerate(zip(documents, clips, strict=True))
    ]
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
