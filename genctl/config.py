"""Configuration: frozen dataclasses filled from dictionaries, strictly; presets are TOML data; `--set a.b=c` overrides.

An unknown key or a wrong type is an error that names the key and the nearest valid one. The order is: dataclass
defaults < preset < `--set`.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from genctl.errors import UsageError, nearest
from genctl.sizes import Size

T = TypeVar("T")
PRESETS = Path(__file__).parent / "presets"


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """An instance of the dataclass `cls` from nested `values`. UsageError names an unknown key or a wrong type."""
    hints = typing.get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise UsageError(f"unknown setting {where}{key}{nearest(key, known)}; known here: {', '.join(known)}")
    return cls(**{key: _convert(value, hints[key], where + key) for key, value in values.items()})


def _convert(value: Any, hint: Any, where: str) -> Any:
    if hint is Size:
        try:
            return Size.of(value)
        except ValueError as error:
            raise UsageError(f"setting {where} is {value!r}; it {error}") from None
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise UsageError(f"setting {where} is a table of settings, not {value!r}")
        return build(hint, value, where + ".")  # type: ignore[arg-type]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if value not in arguments:
            raise UsageError(f"setting {where} is {value!r}; it can be {', '.join(map(repr, arguments))}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(value, next(kind for kind in arguments if kind is not type(None)), where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"setting {where} is {value!r}; it wants a list")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise UsageError(f"setting {where} wants {len(kinds)} values, got {len(value)}")
        return tuple(_convert(item, kind, where) for item, kind in zip(value, kinds, strict=True))
    if hint is float and type(value) is int:
        return float(value)
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"setting {where} is {value}; it wants a finite number")
    if origin is dict or hint is dict or hint is Any:
        return value
    if type(value) is not hint:
        raise UsageError(f"setting {where} is {value!r}; it wants {hint.__name__}")
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """The plain nested dictionary of a config (what a model file records): lists for tuples."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if isinstance(value, Size):
        return value.plain
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on top, table by table."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def presets(family: str | None = None) -> list[str]:
    """Names of the presets that a family has (or all, as `family.preset`)."""
    names = sorted(path.stem for path in PRESETS.glob("*.toml"))
    return [name.split(".", 1)[1] for name in names if name.split(".")[0] == family] if family else names


def load_preset(family: str, preset: str) -> dict[str, Any]:
    """The nested values of `presets/FAMILY.PRESET.toml`. Raises UsageError naming the nearest known preset."""
    path = PRESETS / f"{family}.{preset}.toml"
    if preset not in presets(family):
        known = presets(family)
        raise UsageError(f"{family} has no preset {preset!r}{nearest(preset, known)}; it has {', '.join(known)}")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def parse_override(text: str) -> dict[str, Any]:
    """`net.depth=6` -> {"net": {"depth": 6}}. The value is TOML (6, 1e-3, true, [1, 2]) or else plain text."""
    key, equals, value = text.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise UsageError(f"--set {text}: wants key=value, for example --set train.batch=64")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = float(value) if re.fullmatch(r"[+-]?\.[0-9]+", value.strip()) else value  # .5, which TOML writes 0.5
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return parsed
