"""The shape of the code: an import goes down the floors only, and no two files import each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "genctl"
FLOORS = [  # from the top; a file may import from its own floor and from those below
    {"cli", "__main__"}, {"model", "drawing", "shown"}, {"training", "metrics"}, {"families", "asked"},
    {"data", "media"},
    {"nets"},
    {"diffusion"},
    {"options", "sizes", "config", "files", "hub", "rng", "seeds", "errors", "devices", "describe", "text", "writing",
     "__init__", ""},
]  # fmt: skip
# without torch at their top
LIGHT = ("options", "asked", "sizes", "config", "cli", "text", "diffusion.names", "families.registry",
         "families.flow.options", "families.flow.video_options", "families.flow.settings",
         "families.distill.settings")  # fmt: skip


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


FILES = {name_of(file): ast.parse(file.read_text()) for file in ROOT.rglob("*.py")}


def imports(name: str, tree: ast.AST) -> set[str]:
    """The modules of genctl that a file imports, anywhere within and also for types alone."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "genctl":
            inner = (node.module or "").removeprefix("genctl").removeprefix(".")
            for alias in node.names:
                longer = f"{inner}.{alias.name}".strip(".")
                found.add(longer if longer in FILES else inner)
    return found - {name}


GRAPH = {name: imports(name, tree) for name, tree in FILES.items()}


def floor(name: str) -> int:
    return next(index for index, names in enumerate(FLOORS) if name.split(".")[0] in names)


@pytest.mark.parametrize("name", sorted(name for name in FILES if name))
def test_imports_go_down(name: str) -> None:
    up = {other for other in GRAPH[name] if other and floor(other) < floor(name)}
    media = {f"media.{name}" for name in ("clips", "formats", "others", "pictures", "provenance", "stream")}
    allowed = {"describe": media}.get(name, set())
    assert not up - allowed


def test_every_import_is_of_something_that_is_there() -> None:
    """Also those within functions, which nothing else looks at before they are run."""
    for name, others in GRAPH.items():
        assert not {other for other in others if other not in FILES and other}, name


def test_no_circle() -> None:
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in GRAPH.get(name, set()) - {""}:
                visit(other, (*trail, name))
            done.add(name)

    for name in FILES:
        if name:
            visit(name, ())


def test_nets_and_diffusion_do_not_know_each_other() -> None:
    for name, others in GRAPH.items():
        floors = {other.split(".")[0] for other in others}
        assert not (name.startswith("nets") and "diffusion" in floors), name
        assert not (name.startswith("diffusion") and floors & {"nets", "families"}), name
        assert not (name.startswith("families.flow") and any(other.startswith("families.distill") for other in others))


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.startswith(LIGHT)))
def test_light_files_import_no_torch_at_their_top(name: str) -> None:
    top = [node for node in FILES[name].body if isinstance(node, (ast.Import, ast.ImportFrom))]  # type: ignore[attr-defined]
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
    assert not any(found.split(".")[0] in ("torch", "numpy") for found in names)


def test_no_file_is_long() -> None:
    lengths = {name: len((ROOT / f"{name.replace('.', '/')}.py").read_text().splitlines())
               for name in FILES if (ROOT / f"{name.replace('.', '/')}.py").is_file()}  # fmt: skip
    assert max(lengths.values()) <= 350, max(lengths, key=lambda name: lengths[name])
