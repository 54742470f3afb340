"""What a sample command asks for, as jobs: the product of the lists that were given, the lines of a file of prompts, or
what made an earlier picture."""

from __future__ import annotations

import io
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genctl.asked import Job, build, keywords, recorded_keys, sided
from genctl.cli import shared
from genctl.errors import GenctlError, InputError, UsageError
from genctl.media.sheet import CELLS, LABELS, Layout, square
from genctl.options import clean, plain
from genctl.seeds import MOST, MOST_SEED
from genctl.text import Lines, cut, parse_json, read_lines

Cell = dict[str, Any]  # one picture's settings by name: `model`, `seed` and those of `build`


@dataclass(frozen=True)
class Plan:
    """Pictures to draw, and how a sheet of them would be laid out and labelled."""

    cells: list[Cell]
    layout: Layout
    swept: list[str] = field(default_factory=list)  # of each cell, what tells it from the others; or nothing

    def jobs(self, documents: Documents) -> list[Job]:
        """A job a cell; what cells that differ in seed alone are asked for is checked once."""
        known: dict[Any, Job] = {}
        jobs = []
        before: Cell = {}
        for cell in self.cells:
            rest = {name: value for name, value in cell.items() if name != "seed"}
            if rest != before:  # else as the one before: most of many do
                key: Any = tuple(rest.items())
                try:
                    hash(key)
                except TypeError:  # a JSON line's list
                    key = repr(key)
                job = known[key] if key in known else known.setdefault(key, job_of(cell, documents))
                before = rest
            jobs.append(Job(job.model, cell["seed"], job.asked, job.options, job.document))
        return jobs


class Documents:
    """What the models' files say of themselves, each read once. A family without a file is described by its class."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {}

    def of(self, name: str) -> dict[str, Any]:
        if name not in self.known:
            self.known[name] = shared.require(name, "sample")
        return self.known[name]


def job_of(cell: Cell, documents: Documents) -> Job:
    rest = {key: value for key, value in cell.items() if key not in ("model", "seed")}
    document = documents.of(cell["model"])
    return Job(cell["model"], cell["seed"], *build(cell["model"], document, rest), document)


def product(axes: dict[str, list[Any]]) -> Plan:
    """Every combination of the values of each axis, the last axis running fastest. Of two axes or more with several
    values the last ones are a sheet's columns, as many of them as bring it nearest to a square; one alone labels its
    pictures, but for seeds, which need no label."""
    total = 1
    for values in axes.values():
        total *= len(values)
    if total > MOST:
        raise UsageError(f"{total:,} pictures in one call; at most {MOST:,}")
    cells = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    long = {name: values for name, values in axes.items() if len(values) > 1}
    named = {name: [label(name, value) for value in values] for name, values in long.items()}
    told_apart = [name for name in long if name not in ("seed", "prompt", "class_name")]
    swept = ["-".join(f"{name}{_short(cell[name])}" for name in told_apart) for cell in cells] if told_apart else []
    if len(long) < 2:
        one = next(iter(named.values()), [])
        layout = square(total)
        if one and "seed" not in named:
            columns = total if total <= 8 else layout.columns
            layout = Layout(columns, -(-total // columns), cell_labels=tuple(one))
        return Plan(cells, layout, swept)
    texts = list(named.values())
    cuts = [(_crossed(texts[:place]), _crossed(texts[place:])) for place in range(len(texts) - 1, 0, -1)]
    down, across = min(cuts, key=lambda cut: abs(len(cut[0]) - len(cut[1])))
    return Plan(cells, Layout(len(across), len(down), down, across), swept)


def _crossed(labels: list[list[str]]) -> tuple[str, ...]:
    return tuple(", ".join(texts) for texts in itertools.product(*labels))


def label(name: str, value: Any) -> str:
    """What a sheet says of a value."""
    if name in ("prompt", "class_name", "model"):
        return str(value) or "(no prompt)"
    return f"{name} {_short(value)}"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(plain(value))


# lines of prompts ----------------------------------------------------------------------------------------------------
class Prompts:
    """(number, text) of the lines of a file of prompts, `-` being stdin, each as soon as it has come; blank ones and
    comments are passed over. After the InputError of a line that is no text the next one can be asked for."""

    def __init__(self, source: str) -> None:
        self.lines = _open_lines(source)
        self.number = 0

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self

    def __next__(self) -> tuple[int, str]:
        while True:
            self.number += 1
            _, line = next(self.lines)
            if line.strip() and not line.lstrip().startswith("#"):
                return self.number, line.strip()


def _open_lines(source: str) -> Iterator[tuple[int, str]]:
    if source != "-":
        return read_lines(Path(source))
    if sys.stdin is None:
        raise UsageError("-: there is no stdin")
    if sys.stdin.isatty():
        shared.remark("genctl: a prompt a line; end with Ctrl-D")
    return Lines(getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode()), "stdin")


def prompts_of(source: str) -> list[str]:
    """The prompts of a file, a line each, plain or as JSON with `prompt` alone. Raises InputError that names the
    line."""
    texts = []
    for number, line in Prompts(source):
        where = f"{source}: line {number}"
        row = _row(where, line) or {"prompt": line}
        if row.keys() != {"prompt"} or not isinstance(row["prompt"], str):
            raise InputError(f"{where}: wants a prompt, or JSON with a text as prompt and nothing else")
        texts.append(clean(row["prompt"]))
    return texts


def line_plan(
    source: str, axes: dict[str, list[Any]], first: int, count: int, documents: Documents,
    lines: Iterable[tuple[int, str]] | None = None,
) -> tuple[Plan, int]:  # fmt: skip
    """What the lines of a file ask for, and how many of them have no seed of their own: a prompt (of a model by
    classes: a class), or JSON with any of `model`, `prompt`, `class`, `seed`, `n` and the model's options, for which
    the command line's values stand in. Raises InputError that names the line."""
    cells: list[Cell] = []
    swept: list[str] = []
    without = 0
    for number, line in Prompts(source) if lines is None else lines:
        where = f"{'stdin' if source == '-' else source}: line {number}"
        row = _row(where, line)
        without += "seed" not in row
        try:
            plan = _line_product(row, line, axes, first, count, documents)
            cells += plan.cells
            swept += plan.swept or [""] * len(plan.cells)
        except GenctlError as error:
            raise InputError(f"{where}: {cut(str(error))}") from None
        if len(cells) > MOST:
            raise InputError(f"{where}: more than {MOST:,} pictures in one call")
    if not cells:
        raise InputError(f"{source}: no prompts")
    labels = [_line_label(cell, axes) for cell in cells]
    twice = {text for text, times in Counter(labels).items() if times > 1}
    labels = [
        f"{text}, seed {cell['seed']}" if text in twice else text for text, cell in zip(labels, cells, strict=True)
    ]
    layout = square(len(cells))
    return Plan(cells, Layout(layout.columns, layout.rows, cell_labels=tuple(labels)), swept), without


def _row(where: str, line: str) -> dict[str, Any]:
    """A line's JSON; a plain line has none."""
    if not line.startswith("{"):
        return {}
    row: dict[str, Any] = parse_json(line, where)
    for key in ("prompt", "class", "class_name"):
        if key in row and row[key] is None:  # elsewhere null leaves the usual value, but nobody asks for nothing
            raise InputError(f'{where}: {key} is null; it wants a text (of an unconditional picture "")')
    return row


def _line_product(
    row: dict[str, Any], line: str, axes: dict[str, list[Any]], first: int, count: int, documents: Documents
) -> Plan:
    start, copies = row.pop("seed", first), row.pop("n", count)
    if (
        type(start) is not int
        or type(copies) is not int
        or not (0 <= start <= MOST_SEED - copies and 1 <= copies <= MOST)
    ):
        raise UsageError(f"seed and n are whole numbers, seed 0 or more, n 1 to {MOST:,}")
    models = [row.pop("model")] if "model" in row else axes["model"]
    if not all(isinstance(name, str) for name in models):
        raise UsageError("model is the name of one")
    if not line.startswith("{"):
        row = {"class_name" if "class" in documents.of(models[0])["can"] else "prompt": line}
    known = keywords()
    own: dict[str, list[Any]] = {}
    for key, value in sided(row).items():
        name = known[key].name if key in known else key
        if name in own:
            raise UsageError(f"{known[key].flags[0]} is given twice, once as {key!r}")
        own[name] = [value]
    plan = product(axes | own | {"model": models, "seed": [start + index for index in range(copies)]})
    for cell in plan.cells[::copies]:
        job_of(cell, documents)
    return plan


def _line_label(cell: Cell, axes: dict[str, list[Any]]) -> str:
    text = str(cell.get("prompt") or cell.get("class_name") or "(no prompt)")
    return ", ".join([text, *(label(name, cell[name]) for name, values in axes.items() if len(values) > 1)])


# what made a picture -------------------------------------------------------------------------------------------------
def like_plan(
    path: Path, axes: dict[str, list[Any]], seeds: dict[str, list[Any]], count: int = 1
) -> tuple[dict[str, Any], Plan]:
    """What the picture at `path` says of itself, and the plan that repeats it; what was given on the command line wins,
    axes and seeds. Raises InputError where it does not say enough, or says what cannot be."""
    from genctl.media.provenance import read_provenance
    from genctl.media.stream import read_file

    document = read_provenance(read_file(path))
    if document is None:
        raise InputError(f"{path}: does not say how it was made")
    rows = document.get(CELLS)
    if rows is not None and not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise InputError(f"{path}: says nothing sensible of its pictures")
    if document.get("task") or (document.get("count", 1) != 1 and not isinstance(rows, list)):
        what = document.get("task") or f"a grid of {document['count']}, which does not say of what"
        raise InputError(f"{path}: is no single drawing ({what}); info says how this was made")
    named = str(document.get("model", ""))
    for name in [named, *(str(row.get("model", "")) for row in rows or [])]:
        if "model" not in axes and (shared.hub.path_like(name) or ":" in name):
            raise InputError(f"{path}: names the model {name!r}; give it with --model if you trust it")
    for name, what in (("image", "another picture"), ("mask", "a mask"), ("guide", "a weaker model")):
        if document.get(name) and name not in axes:
            raise InputError(f"{path}: was made with {what}, which it does not hold; give it with --{name}")
        if any(row.get(name) for row in rows or []):
            raise InputError(f"{path}: some of its pictures were made with {what}, which it does not hold")
    if rows is None:
        restored = _restored(path, document)
        first = restored["seed"][0]
        seeds = seeds or {"seed": [first + index for index in range(count)]}
        return document, product(restored | axes | seeds)
    if count > 1 and not seeds:
        raise UsageError(
            f"-n {count}: {path} is a sheet of {document.get('count')} pictures; give --seed too, or no -n"
        )
    if not rows or len(rows) > MOST:
        raise InputError(f"{path}: says nothing sensible of its pictures")
    settings = [_restored(path, document | row) | axes | seeds for row in rows]
    cells = [{name: values[0] for name, values in one.items()} for one in settings]
    return document, Plan(cells, _layout(document.get("sheet"), len(cells)))


def _restored(path: Path, document: dict[str, Any]) -> dict[str, list[Any]]:
    """One value of each setting that a picture records."""

    seed = document.get("seed", 0)
    if type(seed) is not int or not 0 <= seed <= MOST_SEED:
        raise InputError(f"{path}: says seed {seed!r} of itself, which cannot be")
    found: dict[str, list[Any]] = {"model": [str(document.get("model", "ldm"))], "seed": [seed]}
    for key, about in recorded_keys().items():
        if about.restored and document.get(key) is not None:
            try:
                found[about.name] = [about.check(document[key])]
            except ValueError as error:
                raise InputError(f"{path}: says {key} {document[key]!r} of itself, which {error}") from None
    return found


def _layout(said: Any, count: int) -> Layout:
    """A sheet's layout as it was recorded, or a square."""
    try:
        labels = {name: tuple(clean(str(text)) for text in said[name]) for name in LABELS if name in said}
        made = Layout(int(said["columns"]), -(-count // int(said["columns"])), **labels)
    except (TypeError, KeyError, ValueError, ZeroDivisionError, OverflowError):
        return square(count)
    fits = {"row_labels": made.rows, "column_labels": made.columns, "cell_labels": count}
    good = all(len(getattr(made, name)) in (0, most) for name, most in fits.items()) and 0 < made.columns <= count
    return made if good else square(count)
