"""Flags made from declared options (genctl/options.py): a command says which names it takes, and gets their values."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from genctl.asked import Asked, every_option
from genctl.cli import shared
from genctl.families import registry
from genctl.options import LISTED, Option, declared

Command = Callable[..., None]

METAVARS = {"int": "N", "float": "X", "choice": "NAME", "span": "LOW,HIGH", "size": "WxH", "weighted": "TEXT:X"}
REPEATED = ("prompt",)  # options whose flag may come several times, for as many pictures


def takes(names: Callable[[], Iterable[str]], sweeps: bool) -> Callable[[Command], Command]:
    """A command that gets these declared options as its argument `asked`, {name: values}: those that were given, with
    every value of a list where it `sweeps`, else the one."""

    def decorate(command: Command) -> Command:
        command.takes = names, sweeps  # type: ignore[attr-defined]
        return command

    return decorate


def of_kinds() -> list[str]:
    """The options of all kinds of families, by name."""
    return list(dict.fromkeys(name for kind in registry.kinds() for name in declared(kind)))


def taken(model: str) -> set[str]:
    """The options that a model takes, those that every family shares among them. Raises ModelError."""
    document = shared.require(model, "sample")
    kind, can = registry.options_class(document["family"]), document["can"]
    condition = {"prompt": "text", "class_name": "class", "image": "image", "mask": "mask", "strength": "image"}
    own = declared(kind).keys() - kind.refused(document).keys()
    return own | {name for name in declared(Asked) if condition.get(name, "sample") in can}


def made(command: Command) -> Command:
    """The command as Typer wants it: with a parameter for each declared option that it takes, after the model's."""
    if not hasattr(command, "takes"):
        return command
    names, sweeps = command.takes
    known = every_option()
    chosen = [known[name] for name in names()]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        given = {about.name: arguments.pop(about.name) for about in chosen}
        said = [about for about in chosen if given[about.name] not in (None, False, [])]
        values = {about.name: _values(about, given[about.name], sweeps) for about in said}
        command(**arguments, asked=values)

    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "asked"]
    place = 1 + max(index for index, one in enumerate(own) if one.name == "model" or one.default is one.empty)
    parameters = [*own[:place], *(_parameter(about, sweeps) for about in chosen), *own[place:]]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__wrapped__  # type: ignore[attr-defined]  # or its signature would be read instead
    return run


def _parameter(about: Option, sweeps: bool) -> inspect.Parameter:
    many = about.kind == "weighted" or (sweeps and about.name in REPEATED)
    kind: Any = bool if about.kind == "flag" else list[str] | None if many else str | None
    shown: dict[str, Any] = {"help": _help(about), "rich_help_panel": about.panel}
    if about.kind in METAVARS:
        listed = sweeps and about.kind in LISTED
        shown["metavar"] = METAVARS[about.kind] + ("[,...]" if listed else "")
    annotation = Annotated[kind, typer.Option(*about.flags, **shown)]
    default = False if about.kind == "flag" else None
    return inspect.Parameter(
        about.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation
    )


def _help(about: Option) -> str:
    text = about.help if about.help.endswith((".", ")")) or not about.choices else f"{about.help}:"
    return text if text.endswith((".", ")")) else f"{text} {', '.join(about.choices)}."


def _values(about: Option, given: Any, sweeps: bool) -> Any:
    if about.kind == "weighted":
        return [about.said(tuple(given), " ".join(given))]
    if isinstance(given, bool):
        return [given]
    if isinstance(given, list):
        return [about.said(one) for one in given]
    if not sweeps and about.kind in LISTED:
        return [about.parse(given)[0]] if "," not in given else [about.said(given)]
    return about.parse(given)
