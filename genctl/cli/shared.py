"""What several commands share: option types, devices, loading with refusal, progress and results."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genctl import __version__, hub
from genctl.errors import ModelError, PipeClosedError, UsageError, nearest

if TYPE_CHECKING:
    from genctl.families.base import Family


def complete_models(incomplete: str) -> list[str]:
    return sorted(name for name, _ in hub.listed() if name.startswith(incomplete))


LARGE = 16_000_000  # pixels of a picture that a codec works on for half a minute

Model = Annotated[
    str, typer.Option("--model", "-m", help="Name, path or hf://owner/repo.", autocompletion=complete_models)
]
Output = Annotated[
    str | None, typer.Option("--output", "-o", help="File, template ({i} {seed} {prompt}), folder/ or -.")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace existing files.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, fp32 or bf16.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document a line on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks.")]
NoMetadata = Annotated[bool, typer.Option("--no-metadata", help="Do not write into the picture how it was made.")]


# of diffusion/solve.py, which needs torch
SOLVERS = ("euler", "heun", "heun_churn", "midpoint", "rk4", "dpmpp_2m", "dpmpp_3m",
           "ancestral", "consistency", "dpmpp_2m_sde", "sde", "predictor_corrector")  # fmt: skip
PATHS = ("linear", "cosine", "vp", "subvp", "ve", "edm")  # of diffusion/path.py
SPACINGS = ("uniform", "karras", "exponential", "beta")  # of diffusion/time.py
SPACES = ("code", "noise")  # of families/base.py
METHODS = ("consistency", "meanflow", "progressive", "reflow", "dmd", "adversarial")  # of families/distill
GUIDANCE = ("cfg", "apg", "zero_star")  # of diffusion/guide.py


def one_of(option: str, value: str, known: Iterable[str]) -> str:
    """`value` if it is one of the known ones; UsageError with the nearest otherwise."""
    names = list(known)
    if value not in names:
        raise UsageError(f"{option} {value}: not one of {', '.join(names)}{nearest(value, names)}")
    return value


def given(context: typer.Context) -> set[str]:
    """The parameters that the command line itself gives."""
    return {name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")}


def refuse_unused(context: typer.Context, where: str, *parameters: str) -> None:
    """Raise UsageError for the first of these parameters that the command line gives, as it has no effect `where`."""
    flags = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name in parameters:
        if name in given(context):
            raise UsageError(f"{flags[name]} has no effect {where}; leave it out")


def one_stdout(output: str | None, as_json: bool) -> None:
    """Raise UsageError where both data and documents about files are asked for on stdout."""
    if output == "-" and as_json:
        raise UsageError("--json has no effect with -o -, where stdout has the data itself; leave it out")


def finite(option: str, value: float | None) -> None:
    """Raises UsageError for NaN and infinity."""
    if value is not None and not math.isfinite(value):
        raise UsageError(f"{option} {value}: wants a finite number")


def device_of(name: str) -> Any:
    """The torch device that `--device` names. Raises UsageError when this machine lacks it."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _mps() else "cpu")
    kind = name.split(":")[0]
    one_of("--device", kind, ("auto", "cpu", "cuda", "mps"))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: not a device") from None
    count = torch.cuda.device_count() if kind == "cuda" else int(_mps())
    if kind != "cpu" and (device.index or 0) >= count:
        raise UsageError(f"--device {name}: this machine (or this build of torch) has {count} of that kind")
    return device


def _mps() -> bool:
    import torch

    return torch.backends.mps.is_available()


def dtype_of(name: str) -> Any:
    """The torch dtype that `--dtype` names, or None for auto."""
    one_of("--dtype", name, ("auto", "fp32", "bf16"))
    import torch

    return {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}[name]


OPTIMAL = "optimal"  # no file: the optimal prediction of the pictures that --data names


def describe(name: str) -> tuple[Path, dict[str, Any]]:
    """A model's file and what its header says, without torch."""
    path = hub.resolve(name)
    document, _ = hub.read_document(path)
    if "part" in document:
        raise ModelError(f"{name}: the part {document['part']!r}, not a model")
    return path, document


def require(name: str, verb: str, **wanted: bool) -> dict[str, Any]:
    """The model's document, once it is known to do `verb` and to take each wanted condition; else UsageError."""
    if name == OPTIMAL:
        return {"family": OPTIMAL, "can": ["sample", "text", "image", "mask"], "pixels": 64}
    _, document = describe(name)
    if verb not in document["can"]:
        able = [other for other, row in known_documents() if verb in row["can"]]
        hint = f"; models that can: {', '.join(able[:5])}" if able else ""
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


def load_optimal(folder: Path, device: str, quiet: bool) -> Family:
    """The optimal prediction of a folder's pictures, at 64 pixels."""
    from genctl.data.pictures import DataConfig, load
    from genctl.families.optimal import Optimal, OptimalConfig

    config = OptimalConfig()
    pictures = load(folder, config.pixels, DataConfig(), lambda line: remark(f"genctl: {line}", quiet))
    remark(f"data: {pictures.summary} (crop to {config.pixels} px)", quiet)
    return Optimal(config, pictures.split(False), device_of(device))


def load(name: str, device: str, quiet: bool = False) -> Family:
    """The model, ready for inference on `device`."""
    from genctl.families.base import load as load_family

    model = load_family(name, device_of(device))
    model.prepare()
    remark_others(name, quiet)
    return model


def space_of(family: Family, space: str | None) -> str:
    """The space that `--space` names, or the family's own. Raises UsageError where the family lacks it."""
    if space is not None and space not in family.spaces:
        raise UsageError(f"--space {space}: a {family.name} model has {' and '.join(family.spaces)}")
    return space or family.spaces[0]


def remark(text: str, quiet: bool = False) -> None:
    """A line on stderr."""
    if not quiet:
        print(text, file=sys.stderr)


def counter(quiet: bool) -> Callable[[int, int], None]:
    """Shows `done of total` on a terminal."""

    def report(done: int, total: int) -> None:
        if not quiet and sys.stderr.isatty():
            print(f"\r{done} of {total}", end="" if done < total else "\n", file=sys.stderr, flush=True)

    return report


def remark_large(name: str, width: int, height: int) -> None:
    """What takes a codec so long with a large picture."""
    if width * height >= LARGE:
        remark(f"{name}: {width} x {height}, {width * height / 1e6:.0f} megapixels; this takes a while")


def remark_others(name: str, quiet: bool = False) -> None:
    """Which model a name means where there are several of it."""
    others = hub.others(name)
    if others:
        found = hub.resolve(name)
        first = "the shipped model" if found.parent == hub.weights_folder() else hub.typed(found)
        remark(f"{name}: {first}; your own is {' and '.join(others)}", quiet)


def result(path: Path | str, as_json: bool, **facts: Any) -> None:
    """Say on stdout what was made: the path, or with --json one document."""
    try:
        print(json.dumps({"path": str(path)} | facts, ensure_ascii=False) if as_json else path, flush=True)
    except BrokenPipeError:
        raise PipeClosedError from None


def made_by(model: Family, name: str, **facts: Any) -> dict[str, Any]:
    """The provenance document of a picture."""
    shown = Path(name).stem if hub.path_like(name) else name  # a name, never a path of this machine
    document = {"version": __version__, "model": shown, "sha256": model.sha256} | facts
    return {key: value for key, value in document.items() if value not in (None, "")}
