"""genctl eval: held-out figures of a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from genctl.cli import shared
from genctl.errors import UsageError


def evaluate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Model to measure.", autocompletion=shared.complete_models)],
    data: Annotated[Path, typer.Argument(help="Folder of pictures; its held-out part is used, if it has one.")],
    most: Annotated[int, typer.Option("--most", help="At most so many pictures of each kind.", min=1)] = 400,
    cfg: Annotated[float | None, typer.Option("--cfg", help="Guidance scale.")] = None,
    steps: Annotated[int | None, typer.Option(help="Solver steps.", min=1)] = None,
    solver: Annotated[str, typer.Option(help="Solver.")] = "euler",
    device: shared.Device = "auto",
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Measure a model on held-out data: a codec's PSNR and LPIPS, a text model's concept retrieval."""
    shared.finite("--cfg", cfg)
    shared.one_of("--solver", solver, shared.SOLVERS)
    _, document = shared.describe(model)
    can = document.get("can", [])
    if "text" not in can and "encode" not in can:
        raise UsageError(f"eval has no figure yet for a {document.get('family')} model")
    if "text" not in can:
        shared.refuse_unused(context, "on a codec, which draws nothing", "cfg", "steps", "solver")
    figures = _measure(model, data, most, {"guidance_scale": cfg, "steps": steps, "solver": solver}, device, quiet)
    document = {"model": model, "sha256": figures.pop("sha256")} | figures
    if as_json:
        print(json.dumps(document, ensure_ascii=False))
        return
    from genctl.cli.models import _lines

    for line in _lines(document):
        print(line)


def _measure(name: str, folder: Path, most: int, request: dict[str, Any], device: str, quiet: bool) -> dict[str, Any]:
    from genctl.config import build
    from genctl.data.pictures import DataConfig, load
    from genctl.metrics.evaluate import reconstruction, retrieval

    family = shared.load(name, device, quiet)
    recorded = family.info.get("data", {})
    settings = build(DataConfig, recorded.get("settings", {}))  # the same split and crop as in training
    pictures = load(folder, family.pixels, settings, lambda line: shared.remark(f"genctl: {line}", quiet))
    if recorded.get("fingerprint") not in (None, pictures.fingerprint):
        shared.remark("genctl: not the data that this model was trained on; what is held out here may differ", quiet)
    held = pictures.split(True)
    if not len(held):
        shared.remark(f"genctl: {folder}: nothing is held out; all pictures are measured, also trained ones", quiet)
    if "text" in family.can:
        figures = retrieval(family, pictures, most, request, _progress(quiet))
    else:
        measured = (held if len(held) else pictures).spread(most)
        figures = {"held_out": len(held) > 0} | reconstruction(family, measured)
    return figures | {"sha256": family.sha256}


def _progress(quiet: bool) -> Any:
    def report(done: int, total: int) -> None:
        if not quiet and sys.stderr.isatty():
            print(f"\r{done} of {total} drawn", end="" if done < total else "\n", file=sys.stderr, flush=True)

    return report
