"""What several commands share: option types, devices, loading with refusal, progress and results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genctl import config, hub
from genctl.cli import say
from genctl.devices import device_of
from genctl.errors import ModelError, UsageError, nearest
from genctl.families import registry

if TYPE_CHECKING:
    from genctl.families.base import Family
    from genctl.model import Model as Loaded


def complete_models(incomplete: str) -> list[str]:
    return sorted(name for name, _ in hub.listed() if name.startswith(incomplete))


LARGE = 16_000_000  # pixels of a picture that a codec works on for half a minute

Model = Annotated[
    str, typer.Option("--model", "-m", help="Name, path or hf://owner/repo.", autocompletion=complete_models)
]
Models = Annotated[
    str,
    typer.Option("--model", "-m", help="Name, path or hf://owner/repo; or several.", autocompletion=complete_models),
]
Output = Annotated[
    str | None, typer.Option("--output", "-o", help="File, template ({i} {seed} {prompt}), folder/ or -.")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace existing files.")]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Allow a model file to name its codec by an address or an absolute path."),
]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Skip files that exist, to resume a stopped batch.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document a line on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks.")]
NoMetadata = Annotated[bool, typer.Option("--no-metadata", help="Write no metadata (how it was made).")]


def one_of(option: str, value: str, known: Iterable[str]) -> str:
    """`value` if it is one of the known ones; UsageError with the nearest otherwise."""
    names = list(known)
    if value not in names:
        raise UsageError(f"{option} {value}: not one of {', '.join(names)}{nearest(value, names)}")
    return value


def given(context: typer.Context) -> set[str]:
    """The parameters that the command line itself gives."""
    return {name for name in context.params if _from_command_line(context, name)}


def _from_command_line(context: typer.Context, name: str) -> bool:
    """By the source's name: what it prints as has changed between releases of Click."""
    return getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"


def refuse_unused(context: typer.Context, where: str, *parameters: str) -> None:
    """Raise UsageError for the first of these parameters that the command line gives, as it has no effect `where`."""
    flags = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name in parameters:
        if name in given(context):
            raise UsageError(f"{flags[name]} has no effect {where}; leave it out")


def one_stdout(output: str | None, as_json: bool) -> None:
    """Raise UsageError where both data and documents about files are asked for on stdout."""
    if output is not None and as_json and (output == "-" or output.startswith("-.")):
        raise UsageError("--json has no effect with -o -, where stdout has the data itself; leave it out")


def describe(name: str) -> tuple[Path, dict[str, Any]]:
    """A model's file and what its header says, without torch."""
    path = hub.resolve(name)
    document, _ = hub.read_document(path)
    if "part" in document:
        raise ModelError(f"{name}: the part {document['part']!r}, not a model")
    return path, document


def require(name: str, verb: str, **wanted: bool) -> dict[str, Any]:
    """The model's document, once it is known to do `verb` and to take each wanted condition; else UsageError."""
    if name in registry.untrained():
        if verb != "sample":
            raise UsageError(f"{name} has no file, and cannot {verb}")
        return untrained_document(name)
    path, document = describe(name)
    try:
        registry.options_class(document["family"]).check_document(document)
    except UsageError as error:
        raise ModelError(f"{path}: damaged ({error})") from None
    if verb not in document["can"]:
        able = [other for other, row in known_documents() if verb in row["can"]]
        hint = f"; models that can: {', '.join(able)}" if able else ""
        raise UsageError(f"a {document['family']} model ({name}) cannot {verb}{hint}")
    for condition, asked in wanted.items():
        if asked and condition not in document["can"]:
            raise UsageError(f"{name} takes no {condition} condition")
    return document


def known_documents() -> Iterable[tuple[str, dict[str, Any]]]:
    """(name, document) of every model that can be named and read."""
    for name, path in hub.known():
        try:
            yield name, hub.read_document(path)[0]
        except ModelError:
            continue


def document_of(name: str) -> dict[str, Any]:
    """What a model says of itself, one without a file too."""
    return untrained_document(name) if name in registry.untrained() else describe(name)[1]


def untrained_document(name: str) -> dict[str, Any]:
    """What a family that is made of its data alone says of itself."""
    cls = registry.family_class(name)
    made = cls.Config()
    return {"family": name, "can": sorted(cls.can), "pixels": made.pixels.plain, "config": config.to_dict(made)}


def load_untrained(name: str, folder: Path, device: str, quiet: bool) -> Family:
    """A family that is made of a folder's pictures alone."""
    from genctl.data.pictures import DataConfig, load

    cls = registry.family_class(name)
    made = cls.Config()
    pictures = load(folder, made.pixels, DataConfig(), lambda line: remark(f"genctl: {line}", quiet))
    remark(f"data: {pictures.summary} (crop to {made.pixels.plain} px)", quiet)
    return cls(made, pictures.split(False), device_of(device))


def load(name: str, device: str, quiet: bool = False, trust: bool = False) -> Family:
    """The model, ready for inference on `device`; see hub.resolve_part for `trust`."""
    from genctl.families.saved import load as load_family

    model = load_family(name, device_of(device), trusted=trust)
    model.prepare()
    remark_others(name, quiet)
    return model


def model_of(name: str, device: str, quiet: bool = False, trust: bool = False) -> Loaded:
    """As `load`, with the Python face around it."""
    from genctl.model import Model as Face

    return Face(load(name, device, quiet, trust), name)


def remark(text: str, quiet: bool = False) -> None:
    """A line on stderr."""
    say.note(text, quiet)


def remark_large(name: str, width: int, height: int) -> None:
    """What takes a codec so long with a large picture."""
    if width * height >= LARGE:
        remark(f"{name}: {width} x {height}, {width * height / 1e6:.0f} megapixels; this takes a while")


def remark_left_out(source: str, quiet: bool = False, *further: str) -> None:
    """Say what a folder holds beside the pictures that are taken from it (and files of `further` endings)."""
    from genctl.media.folder import ENDINGS, look

    if source != "-" and Path(source).is_dir():
        for note in look(Path(source), (*ENDINGS, *further)).notes():
            remark(f"genctl: {source}: {note}", quiet)


def remark_others(name: str, quiet: bool = False) -> None:
    """Which model a name means where there are several of it."""
    others = hub.others(name)
    if others:
        found = hub.resolve(name)
        first = "the shipped model" if found.parent == hub.weights_folder() else hub.typed(found)
        remark(f"{name}: {first}; your own is {' and '.join(others)}", quiet)


def result(path: Path | str, as_json: bool, facts: Mapping[str, Any] | None = None) -> None:
    """Say on stdout what was made: the file's path, or with --json one document that says all of it (a flow's path from
    noise to data as `diffusion_path`)."""
    renamed = {"diffusion_path" if key == "path" else key: value for key, value in (facts or {}).items()}
    if as_json:
        say.document({"path": str(path)} | renamed)
    else:
        say.path(path)
