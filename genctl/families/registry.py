"""The families, a row each: where its class is and what is asked of it, without torch. A new family is its module, its
presets (genctl/presets/NAME.*.toml, if any) and a row here; no command names a family."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from genctl.errors import ModelError, UsageError
from genctl.options import Options


@dataclass(frozen=True)
class Row:
    """`module:Class` of a family, and of its sampling options where it draws."""

    family: str
    options: str = ""
    trainable: bool = True  # else it is made of its data alone, each time
    clips: bool = False  # draws clips, not pictures
    own_size: bool = False  # encodes pictures of its own size only: they are fitted to it
    kin: tuple[str, ...] = ()  # further families whose weights it can begin from


FLOW = "genctl.families.flow.options:FlowOptions"
REGISTRY: dict[str, Row] = {
    "vae": Row("genctl.families.vae:VAE"),
    "vq": Row("genctl.families.vq:VQ", kin=("vae",)),
    "clipvae": Row("genctl.families.clipvae:ClipVAE", kin=("vae",), clips=True),
    "ldm": Row("genctl.families.ldm:LDM", FLOW),
    "video": Row(
        "genctl.families.video:Video", "genctl.families.flow.video_options:VideoOptions", kin=("ldm",), clips=True
    ),
    "rf": Row("genctl.families.rf:RF", FLOW, own_size=True),
    "gan": Row("genctl.families.gan:GAN", "genctl.families.adversarial.settings:GANOptions", own_size=True),
    "ar": Row("genctl.families.ar:AR", "genctl.families.tokens.settings:TokenOptions", own_size=True),
    "optimal": Row("genctl.families.optimal:Optimal", FLOW, trainable=False, own_size=True),
}
SPACES = ("code", "noise")  # where pictures can be taken to: see Family.spaces
DRAWS, CODEC = "ldm", "vae"  # models that commands take unless another is named


def row(name: str) -> Row:
    """Raises ModelError for an unknown family."""
    if name not in REGISTRY:
        raise ModelError(f"unknown model family {name!r}; this version knows {', '.join(REGISTRY)}")
    return REGISTRY[name]


def family_class(name: str) -> Any:
    """The class of a family by name. Raises ModelError for an unknown one."""
    return _named(row(name).family)


def check_init(name: str, of: str, family: str) -> None:
    """Raises UsageError where a model `name` of the family `of` is none that one of `family` can begin from."""
    if of not in (family, *row(family).kin):
        raise UsageError(f"--init {name}: a model of family {of}, not {family}")


def options_class(name: str) -> type[Options]:
    """The sampling options of a family by name; those of a family that does not draw are none."""
    return _named(row(name).options) if row(name).options else Options


def kinds() -> list[type[Options]]:
    """The options of all kinds of families, each once."""
    return list(dict.fromkeys(options_class(name) for name in REGISTRY if REGISTRY[name].options))


def trainable() -> list[str]:
    return [name for name, about in REGISTRY.items() if about.trainable]


def untrained() -> list[str]:
    """Families that are made of their data alone."""
    return [name for name, about in REGISTRY.items() if not about.trainable]


def _named(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)
