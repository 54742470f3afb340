"""genctl eval: held-out figures of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genctl.asked import build
from genctl.cli import flags, say, shared
from genctl.cli.progress import Display, Progress
from genctl.errors import UsageError
from genctl.families import registry
from genctl.options import Options


@flags.takes(flags.of_kinds, sweeps=False)
def evaluate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Model to measure.", autocompletion=shared.complete_models)],
    data: Annotated[
        Path, typer.Argument(help="Folder (or .zip, .tar) of pictures; its held-out part is used, if it has one.")
    ],
    retrieval: Annotated[
        bool, typer.Option("--retrieval", help="Is the prompted concept recognised? Needs concepts in several styles.")
    ] = False,
    distance: Annotated[
        bool,
        typer.Option("--distance", help="Frechet and kernel distance to real pictures."),
    ] = False,
    memorised: Annotated[bool, typer.Option("--memorised", help="How many samples are near copies.")] = False,
    bpd: Annotated[
        bool, typer.Option("--bpd", help="Bits a dimension of at most 64 held-out pictures (rf, ar).")
    ] = False,
    most: Annotated[int, typer.Option("--limit", help="At most N pictures a group (held out, trained).", min=1)] = 400,
    device: shared.Device = "auto",
    trust: shared.Trust = False,
    as_json: shared.Json = False,
    progress: Progress = "auto",
    quiet: shared.Quiet = False,
    *,
    asked: dict[str, list[Any]],
) -> None:
    """Measure a model: a codec's PSNR and LPIPS, a text model's concept retrieval, distances, copies, likelihood."""
    document = shared.document_of(model)
    options = flags.of_kinds()
    wanted_kinds = {"retrieval": retrieval, "distance": distance, "memorised": memorised, "bpd": bpd}
    if "sample" not in document["can"]:
        shared.refuse_unused(context, "on a codec, which draws nothing", *options, *wanted_kinds)
    if retrieval and "text" not in document["can"]:
        raise UsageError(f"--retrieval: {model} takes no text")
    kinds = [name for name, wanted in wanted_kinds.items() if wanted]
    if kinds == ["bpd"]:
        shared.refuse_unused(context, "on --bpd, which draws nothing", *options)
    given = {name: values[0] for name, values in asked.items()}
    made = build(model, document, given)[1] if "sample" in document["can"] else None
    with Display(progress, quiet) as display:
        figures = _measure(model, data, kinds, most, made, device, quiet, trust, display)
    document = {"model": model, "sha256": figures.pop("sha256")} | figures
    if as_json:
        say.document(document)
        return
    from genctl.cli.models import _lines

    for line in _lines(document):
        say.line(line)


def _measure(
    name: str, folder: Path, kinds: list[str], most: int, options: Options | None, device: str, quiet: bool,
    trust: bool, display: Display,
) -> dict[str, Any]:  # fmt: skip
    from genctl.config import build
    from genctl.data.pictures import DataConfig
    from genctl.metrics import evaluate
    from genctl.metrics.bits import with_density

    if name in registry.untrained():
        family = shared.load_untrained(name, folder, device, True)
    else:
        family = shared.load(name, device, quiet, trust)
    if "bpd" in kinds:
        with_density(family)  # before the data are read
    recorded = family.info.get("data", {})
    settings = build(DataConfig, recorded.get("settings", {}))  # the same split and crop as in training
    pictures = family.load_data(family.config, folder, settings, lambda line: shared.remark(f"genctl: {line}", quiet))
    shared.remark(f"data: {pictures.summary} ({settings.fit} to {family.pixels.plain} px)", quiet)
    if recorded.get("fingerprint") not in (None, pictures.fingerprint):
        shared.remark("genctl: not the data that this model was trained on; what is held out here may differ", quiet)
    held = pictures.split(True)
    if not len(held):
        shared.remark(f"genctl: {folder}: nothing is held out; all pictures are measured, also trained ones", quiet)
    if "sample" not in family.can:
        measured = (held if len(held) else pictures).spread(most)
        figures = {"held_out": len(held) > 0} | evaluate.codec(family, measured, most, display.counter("codec"))
    else:
        chosen = kinds or evaluate.default_kinds(family, pictures)
        if not kinds and "text" in family.can and chosen == ["distance"]:
            shared.remark("genctl: the pictures name no styles, which retrieval needs; distances are measured", quiet)
        figures = evaluate.samples(family, pictures, chosen, most, options, display.counter)
    return figures | {"sha256": family.sha256}
