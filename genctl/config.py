"""Configuration: frozen dataclasses filled from dictionaries, strictly; presets are TOML data; `--set a.b=c` overrides.

An unknown key, a wrong type or a value out of range is an error that names the key. The order is: dataclass defaults <
preset < `--set`. A range stands beside its field: `depth: Annotated[int, within(1, 64)] = 8`; of a tuple it is each
item's.
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


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a setting may be: from `low` to `high`, an end itself included unless it is open."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"a number above {self.low:g}" if self.open_low else f"{self.low:g} or more"
        low = f"above {self.low:g}" if self.open_low else f"from {self.low:g}"
        return f"a number {low} to {'below ' * self.open_high}{self.high:.12g}"


def above(low: float, high: float = math.inf) -> Range:
    """Numbers above `low`, to `high`."""
    return Range(low, high, open_low=True)


def within(low: float, high: float = math.inf) -> Range:
    """Numbers from `low` to `high`."""
    return Range(low, high)


def below(high: float, low: float = 0.0) -> Range:
    """Numbers from `low` to below `high`."""
    return Range(low, high, open_high=True)


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """An instance of the dataclass `cls` from nested `values`. UsageError names an unknown key, a wrong type or
    a value out of its range."""
    if not isinstance(values, Mapping):
        raise UsageError(f"setting {where.rstrip('.') or 'config'} is a table of settings, not {values!r:.60}")
    hints = typing.get_type_hints(cls, include_extras=True)
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise UsageError(f"unknown setting {where}{key}{nearest(key, known)}; known here: {', '.join(known)}")
    return cls(**{key: _convert(value, hints[key], where + key) for key, value in values.items()})


def _convert(value: Any, hint: Any, where: str) -> Any:
    if typing.get_origin(hint) is typing.Annotated:
        kind, *notes = typing.get_args(hint)
        converted = _convert(value, kind, where)
        for limits in (note for note in notes if isinstance(note, Range)):
            _check_range(converted, limits, where)
        return converted
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


def _check_range(value: Any, limits: Range, where: str) -> None:
    for item in value if isinstance(value, tuple) else (value,):
        if item is not None and not limits.holds(item):
            shown = list(value) if isinstance(value, tuple) else value
            raise UsageError(f"setting {where} is {shown}; it wants {limits}{' each' * isinstance(value, tuple)}")


def check(config: Any, where: str = "") -> None:
    """Raise UsageError where a number of a configuration that was made by hand is out of its range."""
    for name, hint in typing.get_type_hints(type(config), include_extras=True).items():
        for limits in (note for note in getattr(hint, "__metadata__", ()) if isinstance(note, Range)):
            _check_range(getattr(config, name), limits, where + name)


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
