"""The builder of the clip-art set (examples/openclipart) on made-up drawings: names, what is left out, rendering."""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from genctl.data.folder import scan


def loaded() -> ModuleType:
    file = Path(__file__).parents[2] / "examples" / "openclipart" / "build.py"
    spec = importlib.util.spec_from_file_location("openclipart_build", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build = loaded()
KNOWN = {"monkey", "head", "pear", "dog", "on", "leash", "a", "pig", "ours", "frying", "pan", "t-shirt"}


@pytest.mark.parametrize(
    ("path", "title", "name"),
    [
        ("animals/monkey_head_nicu_buculei_01.svg", "monkey head", "monkey head"),
        ("animals/x_01.svg", "MonkeyHead (BW) #2", "monkey head"),
        ("food/pear.svg", "Clipart by Nicu Buculei - pear_06", "pear"),
        ("food/pear_01r.svg", "R16 sibmission", "pear"),
        ("animals/x.svg", "Dog on leash", "dog on leash"),
        ("animals/x.svg", "libellule", ""),
        ("animals/x.svg", "ours", ""),
        ("animals/x.svg", "a", ""),
        ("animals/12.svg", "", ""),
    ],
)
def test_names_are_plain_english(path: str, title: str, name: str) -> None:
    assert build.name_of(path, title, KNOWN) == name


def drawing(title: str, maker: str = "Somebody", licence: str = "PublicDomain", shape: str = "") -> str:
    circle = shape or '<circle cx="40" cy="40" r="20" fill="#dd2e44"/>'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="210mm" height="297mm"><metadata xmlns:dc="urn:a"
        xmlns:rdf="urn:b" xmlns:cc="urn:c"><dc:title>{title}</dc:title><rdf:li>animal</rdf:li>
        <dc:creator><cc:Agent><dc:title>{maker}</dc:title></cc:Agent></dc:creator>
        <cc:license rdf:resource="http://web.resource.org/cc/{licence}"/></metadata>{circle}</svg>"""


def test_only_public_and_fitting_drawings_are_taken() -> None:
    texts = {
        "animals/dog.svg": drawing("dog"),
        "animals/cat.svg": drawing("cat", licence="by-sa"),
        "animals/horse.svg": drawing("horse", maker="Architetto Francesco Rollandin"),
        "animals/pig_bw.svg": drawing("pig"),
        "computer/icons/mouse.svg": drawing("mouse"),
    }
    [row] = build.rows(texts)
    assert row["style"] == "clipart"  # asked for by name, so that drawings without one stay what they are
    assert (row["text"], row["tags"], row["group"], row["creator"]) == ("dog", ["animal"], "animals", "Somebody")
    assert row["file_name"] == "animals/dog.webp"


def test_a_small_drawing_on_a_large_page_fills_the_picture() -> None:
    pytest.importorskip("resvg_py")
    made = build.render((drawing("dog"), 64))
    assert made
    image = Image.open(io.BytesIO(made[0])).convert("RGB")
    assert image.size == (64, 64)
    box = image.convert("L").point(lambda level: 255 * (level < 200)).getbbox()
    assert box
    assert all(abs(found - wanted) <= 2 for found, wanted in zip(box, (4, 4, 60, 60), strict=True))


@pytest.mark.parametrize("text", ["no drawing", drawing("dog", shape="<g/>")])
def test_what_shows_nothing_is_left_out(text: str) -> None:
    pytest.importorskip("resvg_py")
    assert build.render((text, 64)) is None


def test_a_set_is_built_without_near_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resvg_py")
    square = '<path d="M10 10 H80 V80 H10 Z M30 20 V70 H40 V20 Z" fill="#55acee" fill-rule="evenodd"/>'
    texts = {
        "animals/dog.svg": drawing("dog"),
        "animals/again.svg": drawing("dog"),
        "tools/pan.svg": drawing("pan", shape=square),
    }
    monkeypatch.setattr(build, "drawings", lambda package: texts)
    monkeypatch.setattr(build, "fetch", lambda folder: folder)
    monkeypatch.setattr(build.sys, "argv", ["build.py", str(tmp_path), "--pixels", "64", "--jobs", "1"])
    build.main()
    listing = scan(tmp_path)
    assert sorted(entry.captions for entry in listing.entries) == [("dog",), ("pan",)]


def test_names_are_held_out_whole() -> None:
    names = [f"name {number}" for number in range(2000)]
    held: list[Any] = [name for name in names if build.held_out(name)]
    assert 60 < len(held) < 140
