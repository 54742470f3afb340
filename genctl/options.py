"""Options declared once: a frozen dataclass whose fields say their help, range and choices. Without torch.

    @dataclass(frozen=True)
    class ToyOptions(Options):
        warmth: float = option(0.0, "How much redder.", low=0, high=1)

From that one line come the flag `--warmth` (or a list of values to sweep) with its place in --help, the check of every
value wherever it comes from (flag, JSON line, Python keyword, a picture's provenance), the refusal where a model does
not take it, what a picture records, and what `--like` restores.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NewType, TypeVar

from genctl.errors import UsageError, nearest
from genctl.sizes import Size
from genctl.text import clean

T = TypeVar("T", bound="Options")
Weighted = tuple[tuple[str, float], ...]  # prompts and their weights
Span = tuple[float, float]  # low, high
PictureSource = NewType("PictureSource", object)  # a path, or a Pillow picture
ModelSource = NewType("ModelSource", object)  # a name, or a loaded model
DECLARED: dict[type, dict[str, Option]] = {}  # what `declared` found
LISTED = ("int", "float", "choice", "size")  # kinds of which a comma separates several values


@dataclass(frozen=True)
class Walked:
    """The option, a number, over which `interpolate` walks where another one is given and no ends are."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Option:
    """One declared option. `key` is its name in a picture's provenance; `restored` is False for what names a file, of
    which a picture keeps a fingerprint only."""

    name: str = ""
    kind: str = ""  # int, float, text, choice, flag, span, weighted, size, picture, model
    default: Any = None
    help: str = ""
    panel: str | None = None
    flags: tuple[str, ...] = ()
    key: str = ""
    aliases: tuple[str, ...] = ()  # further keys of a JSON line, further Python keywords
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    synonyms: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    restored: bool = True
    walked: Walked | None = None

    @property
    def wants(self) -> str:
        """What a value must be."""
        within = "" if self.low is None else f" of {self.low:g} or more" if self.high is None else self.between
        kinds = {
            "int": f"a whole number{within}", "float": f"a finite number{within}",
            "span": f"LOW,HIGH{within}, LOW first",
            "flag": "true or false", "text": "a text", "weighted": "a text and its weight, such as hat:0.5",
            "size": "a size such as 128 or 192x128 (width x height)", "choice": f"one of {', '.join(self.choices)}",
            "picture": "a picture's path (or from Python a Pillow picture)", "model": "the name of a model",
        }  # fmt: skip
        return kinds[self.kind]

    @property
    def between(self) -> str:
        return f" from {self.low:g} to {self.high:g}"

    def check(self, value: Any) -> Any:
        """The value in its usual form. Raises ValueError that says what is wanted."""
        if value is None:
            return self.default
        good = CHECKS[self.kind](self, value)
        if good is None:
            close = nearest(value, [*self.choices, *self.synonyms]) if isinstance(value, str) else ""
            raise ValueError(f"wants {self.wants}{close}")
        return good

    def parse(self, text: str) -> list[Any]:
        """The values that a flag's text lists: `1,2,4` is three, to be swept over. Raises UsageError."""
        parts = text.split(",") if self.kind in LISTED else [text]
        return [
            self.said(_raw(self.kind, part.strip() if len(parts) > 1 else part), part or repr(text)) for part in parts
        ]

    def said(self, value: Any, shown: str | None = None) -> Any:
        """`check`, with a UsageError that names the flag and the value, as it was written."""
        try:
            return self.check(value)
        except ValueError as error:
            shown = shown or repr(value)
            raise UsageError(f"{self.flags[0]} {shown}: {error}") from None


def _raw(kind: str, text: str) -> Any:
    """A flag's text as the type that `check` expects, or the text itself, which it then refuses."""
    try:
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
        if kind == "span":
            return tuple(float(part) for part in text.split(","))
    except ValueError:
        return text
    return text


def _number(option: Option, value: Any) -> Any:
    kind: Any = numbers.Integral if option.kind == "int" else numbers.Real
    try:
        if isinstance(value, bool) or not isinstance(value, kind) or not math.isfinite(value):
            return None
    except OverflowError:  # a whole number of hundreds of digits
        return None
    if (option.low is not None and value < option.low) or (option.high is not None and value > option.high):
        return None
    return int(value) if option.kind == "int" else float(value)


def _span(option: Option, value: Any) -> Span | None:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    ends = [_number(option, end) for end in value]
    return None if None in ends or ends[0] > ends[1] else (ends[0], ends[1])


def _weighted(option: Option, value: Any) -> Weighted | None:
    """`hat:0.5` -> ("hat", 0.5), the weight 1 where there is none; or pairs already. Two whole numbers on either side
    of the colon are a ratio or a time of day, and text: `ratio 16:9`."""
    pairs: list[tuple[str, float]] = []
    for item in [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [None]:
        words: Any = item
        weight: Any = 1.0
        if isinstance(item, str):
            text, _, number = item.rpartition(":")
            try:
                said = bool(text) and not re.search(r"[0-9]\s*:\s*[0-9]+\s*$", item)
                words, weight = (text, float(number)) if said else (item, 1.0)
            except ValueError:
                words, weight = item, 1.0
        elif isinstance(item, (list, tuple)) and len(item) == 2:
            words, weight = item
        good = isinstance(words, str) and isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not good or not abs(weight) <= 1e6:
            return None
        pairs.append((clean(words), float(weight)))
    return tuple(pairs)


def _choice(option: Option, value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    name = value.lower().replace(" ", "_")
    return name if name in option.choices else option.synonyms.get(name)


def _picture(option: Option, value: Any) -> Any:
    path = isinstance(value, (str, os.PathLike)) and "\0" not in str(value) and str(value)
    return value if path or hasattr(value, "convert") else None


def _model(option: Option, value: Any) -> Any:
    """A name, a family, or the family of a loaded `Model`."""
    value = str(value) if isinstance(value, os.PathLike) else getattr(value, "family", value)
    return value if (isinstance(value, str) and value) or hasattr(value, "sample") else None


CHECKS: dict[str, Any] = {
    "int": _number, "float": _number, "span": _span, "weighted": _weighted, "choice": _choice,
    "size": lambda option, value: Size.of(value), "picture": _picture, "model": _model,
    "text": lambda option, value: clean(value) if isinstance(value, str) else None,
    "flag": lambda option, value: value if isinstance(value, bool) else None,
}  # fmt: skip


def option(default: Any, help: str, **about: Any) -> Any:
    """A field of an options dataclass; `about` are further fields of `Option` (panel, low, high, flags, key, ...)."""
    return dataclasses.field(default=default, metadata={"option": Option(default=default, help=help, **about)})


def declared(cls: type[Options]) -> dict[str, Option]:
    """The options of a class by name."""
    if cls not in DECLARED:
        DECLARED[cls] = _declared(cls)
    return DECLARED[cls]


def _declared(cls: type[Options]) -> dict[str, Option]:
    hints = typing.get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        about: Option = field.metadata["option"]
        kind, choices = _kind(hints[field.name])
        flags = about.flags or (f"--{field.name.replace('_', '-')}",)
        key = about.key or field.name
        found[field.name] = dataclasses.replace(
            about, name=field.name, kind=kind, choices=about.choices or choices, flags=flags, key=key
        )
    return found


KINDS: dict[Any, str] = {
    int: "int", float: "float", str: "text", bool: "flag", Size: "size", Span: "span", Weighted: "weighted",
    PictureSource: "picture", ModelSource: "model",
}  # fmt: skip


def _kind(hint: Any) -> tuple[str, tuple[str, ...]]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is typing.Literal:
        return "choice", typing.get_args(hint)
    return KINDS[hint], ()


@dataclass(frozen=True)
class Options:
    """Base of a kind of family's sampling options; None means: as the model file says."""

    def __post_init__(self) -> None:
        for name, about in declared(type(self)).items():
            object.__setattr__(self, name, about.said(getattr(self, name)))

    @classmethod
    def refused(cls, document: Mapping[str, Any]) -> dict[str, str]:
        """Options that this model does not take, and why; `document` is what its file says of itself."""
        return {}

    @classmethod
    def check_document(cls, document: Mapping[str, Any]) -> None:
        """Raise UsageError where a model's file says nothing sensible of what these options are checked against."""

    @classmethod
    def sides(cls, document: Mapping[str, Any]) -> int:
        """What the sides of this model's pictures are multiples of; 0: it draws the one size of its training."""
        return 0

    def check_taken(self, document: Mapping[str, Any], model: str) -> None:
        """Raise UsageError for an option that is given and that this model does not take."""
        refused = self.refused(document)
        for name, about in declared(type(self)).items():
            if name in refused and getattr(self, name) != about.default:
                others = [other.flags[0] for key, other in declared(type(self)).items() if key not in refused]
                raise UsageError(
                    f"{about.flags[0]}: {refused[name]}; {model} takes {', '.join(others) or 'no options'}"
                )

    def from_picture(self: T, conditional: bool) -> T:
        """The options of what begins from a picture."""
        return self

    def settled(self: T, document: Mapping[str, Any], conditional: bool = True) -> T:
        """The options with what they leave open filled in from the model's file; `conditional`: whether anything is
        asked for. Raises UsageError for what does not go together."""
        return self

    def recorded(self) -> dict[str, Any]:
        """What a picture's provenance says of them: all that differ from what no key means."""
        said = {about.key: getattr(self, name) for name, about in declared(type(self)).items() if about.restored}
        usual = {about.key: about.default for about in declared(type(self)).values()}
        return {key: plain(value) for key, value in said.items() if value != usual[key] and value is not None}


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Size):
        return str(value)
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def walked(options: Options) -> Walked | None:
    """What `interpolate` walks over where no ends are given, if one of these options says so."""
    known = declared(type(options))
    given = (about.walked for name, about in known.items() if getattr(options, name) != about.default)
    return next((one for one in given if one is not None), None)


def by_keyword(cls: type[Options]) -> dict[str, Option]:
    """The options of a class by everything that a JSON line or Python may call them."""
    named = {name: about for about in declared(cls).values() for name in (about.key, *about.aliases)}
    return named | declared(cls)
