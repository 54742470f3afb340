"""What a new run begins from: another model's weights, by default those of the shipped model of its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from genctl import files, hub
from genctl.errors import ModelError, UsageError
from genctl.families import registry
from genctl.families.base import Family
from genctl.families.saved import kept
from genctl.text import printable
from genctl.training.run import Run, not_finite

Remark = Callable[[str], None]
NONE = "none"  # --init none: at random
ENOUGH = 0.75  # share of a network's tensors that a shipped model must fit, to be begun from unasked


def chosen(family: Family, init: str | None, run: Run) -> str | None:
    """The name of the model to begin from, or None for random weights: the one asked for, else what the run was begun
    from, else the shipped one."""
    if init is not None:
        return None if init == NONE else init
    if run.states():
        said = run.recorded("init")
        return said if isinstance(said, str) else None
    return shipped(family)


def shipped(family: Family) -> str | None:
    """The shipped model of the family's name, where most of its tensors have the shapes of this one's, and it means the
    same by what it predicts; else None. Reads its header alone."""
    row = hub.index().get(family.name, {})
    path = hub.weights_folder() / str(row.get("file"))
    if row.get("kind") != "model" or not path.exists():
        return None
    document, header = hub.read_document(path)
    own = {key: tuple(value.shape) for key, value in kept(family, family.state_dict()).items()}
    fitting = sum(key in header.tensors and header.tensors[key].shape == shape for key, shape in own.items())
    alike = _meaning(document["config"]) == _meaning(family.document()["config"])
    enough = fitting >= ENOUGH * max(len(own), len(header.tensors))
    return family.name if document.get("family") == family.name and alike and enough else None


def _meaning(config: dict[str, Any]) -> tuple[Any, Any]:
    """What a flow's prediction is of; nothing of another model."""
    diffusion = config.get("diffusion", {})
    return diffusion.get("path"), diffusion.get("target")


def initialise(family: Family, name: str, device: Any, remark: Remark, asked: bool = True) -> None:
    """Start from another model's weights: tensors of the same name and shape are taken, and their share is said. Raises
    ModelError for a damaged file, and UsageError for one that does not fit."""
    path = hub.resolve(name)
    document, _ = hub.read_document(path)
    registry.check_init(name, str(document.get("family")), family.name)
    tensors = family.inherited(str(document.get("family")), whole_tensors(path))
    own = kept(family, family.state_dict())
    fitting = {key: value for key, value in tensors.items() if key in own and own[key].shape == value.shape}
    if not fitting:
        raise UsageError(f"--init {name}: none of its tensors fits this configuration")
    family.load_state_dict({key: value.to(device).float() for key, value in fitting.items()}, strict=False)
    share = f"{len(fitting)} of {len(own)} tensors"
    if 2 * len(fitting) < len(own):
        remark(f"genctl: --init {name}: only {share} fit this configuration; all others begin at random")
    else:
        remark(f"from {name}: {share}{'' if asked else ' (--init none begins at random)'}")


def whole_tensors(path: Any) -> dict[str, Any]:
    """The tensors of a model file, checked as every command checks them. Raises ModelError for a damaged one."""
    hub.check_sha256(path)
    tensors, header = files.load_tensors(path)
    files.check_tensors(path, header)
    wrong = not_finite(tensors)
    if wrong:
        raise ModelError(f"{path}: {printable(wrong, 80)} holds NaN or infinite values; the file is damaged")
    return tensors
