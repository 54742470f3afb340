"""genctl: every family of generative image model, trained and sampled by the same few commands; and from Python:

    model = genctl.load("ldm")
    pictures = model.draw("cat", n=4, seed=1, cfg=4)        # Pillow pictures that know how they were made
    genctl.train("pictures/", model="ldm", output="runs/mine", minutes=60)

Importing it takes no torch; the first use does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genctl import errors

__version__ = "0.1.0"
__all__ = ["Codes", "Model", "Picture", "Pictures", "distill", "errors", "info", "load", "models", "train"]

PLACES = {  # where the names are that come with torch
    "Codes": "genctl.model", "Model": "genctl.model", "Picture": "genctl.model", "Pictures": "genctl.model",
    "train": "genctl.training.train", "distill": "genctl.training.distill",
}  # fmt: skip

if TYPE_CHECKING:
    from genctl.model import Codes, Model, Picture, Pictures
    from genctl.training.distill import distill
    from genctl.training.train import train


def load(name: Any = "ldm", device: str = "auto", trust: bool = False) -> Model:
    """A model ready for use, by its name (`genctl.models()`), path, run folder or hf://owner/repo. One to `trust` may
    name files elsewhere, or on the hub, as its codec.

    Raises ModelError for an unknown or damaged one, UsageError for a device that is not there.
    """
    from genctl.devices import device_of
    from genctl.families.saved import load as load_family
    from genctl.model import Model

    name = str(name)
    family = load_family(name, device_of(device), trusted=trust)
    family.prepare()
    return Model(family, name)


def models() -> list[str]:
    """What `load` can be given without a network: shipped models, those of GENCTL_MODELS and of ./runs."""
    from genctl import hub

    return [name for name, _ in hub.listed()]


def info(path: Any) -> dict[str, Any]:
    """Everything that a model, picture or code file says of itself; for a picture, how it was made."""
    from genctl.describe import describe

    return describe(str(path))


def __getattr__(name: str) -> Any:
    import importlib

    if name not in PLACES:
        raise AttributeError(f"module 'genctl' has no attribute {name!r}")
    return getattr(importlib.import_module(PLACES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
