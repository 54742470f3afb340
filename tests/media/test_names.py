"""Names of results: no prompt leaves the folder, nothing is replaced unasked, and all is known before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from genctl.errors import UsageError, WorldError
from genctl.media import names
from genctl.media.names import Result, check_writable, fill, format_of, plan, safe, unique_within


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cats(count: int) -> list[Result]:
    return [Result(i, 10 + i, "cat", "ldm") for i in range(count)]


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=80), st.text(alphabet="./\\:-_ ~$aCoON\0\n\u202e\u0301🐱", max_size=12)))
@example("../../etc/passwd")
@example("/etc/passwd")
@example("C:\\Windows")
@example("con.txt")
@example("COM¹")
@example("\udcff")
@example("-rf *")
def test_any_prompt_is_one_safe_part_of_a_name(prompt: str) -> None:
    part = safe(prompt)
    assert 1 <= len(part.encode()) <= 60
    assert not set(part) & set('/\\:*?"<>|$`\0 \t\n\x7f\u202e\u2028')
    assert all(ord(mark) >= 32 for mark in part)
    assert part[0] not in ".-"
    assert part[-1] not in ". "
    assert part.split(".")[0].lower() not in names.RESERVED
    assert safe(part) == part
    inside = Path("out/" + fill("{prompt}.png", Result(prompt=prompt)))
    assert (inside.parent, Path(os.path.normpath(inside))) == (Path("out"), inside)


@pytest.mark.parametrize(("prompt", "part"), [
    ("a cat, sitting", "a-cat,-sitting"), ("", "sample"), ("...", "sample"), ("NUL", "_NUL"), ("con.png", "_con.png"),
    ("बिल्ली", "बिल्ली"), ("🐱", "🐱"), ("e\u0301te\u0301", "été"), ("a / b", "a-b"), ("猫" * 30, "猫" * 20),
    ("x" * 1_000_000, "x" * 60), ("a" * 59 + "é", "a" * 59),
])  # fmt: skip
def test_prompts_stay_readable(prompt: str, part: str) -> None:
    assert safe(prompt) == part


def test_without_o_nothing_is_ever_replaced() -> None:
    assert plan(None, cats(2), force=False) == [Path("cat-10.png"), Path("cat-11.png")]
    Path("cat-10.png").touch()
    Path("cat-10-2.png").touch()
    Path("cat-11.png").symlink_to("nowhere")  # does not "exist", but would be replaced
    assert plan(None, cats(2), force=True) == [Path("cat-10-3.png"), Path("cat-11-2.png")]
    assert plan(None, [Result(0, 1, "", "ldm")], force=False) == [Path("ldm-1.png")]


def test_same_names_within_one_call_are_numbered() -> None:
    twice = [Result(0, 1, "cat"), Result(1, 1, "cat"), Result(2, 1, "CAT")]
    assert [path.name for path in plan(None, twice, force=False)] == [
        "cat-1.png", "cat-1-2.png", "CAT-1-3.png",
    ]  # fmt: skip
    assert [path.name for path in unique_within(map(Path, ["a.png", "a.png", "a-2.png"]))] == [
        "a.png", "a-2.png", "a-2-2.png",
    ]  # fmt: skip


@pytest.mark.parametrize("out", ["new/", "old", "old/", "{model}/"])
def test_a_folder_takes_one_file_a_picture(out: str) -> None:
    Path("old").mkdir()
    paths = plan(out, cats(2), force=False)
    assert paths == [Path(out.format(model="ldm")) / "cat-10.png", Path(out.format(model="ldm")) / "cat-11.png"]
    assert not Path("new").exists()  # planning writes nothing


def test_templates_are_filled() -> None:
    assert plan("x/{model}-{prompt}-{seed}-{i}.webp", cats(1), force=False) == [Path("x/ldm-cat-10-0.webp")]
    assert fill("{{i}}-{i}", Result(3)) == "{i}-3"
    assert fill("{prompt}/{model}", Result(prompt="../..", model="/abs/../model")) == "sample/abs-..-model"


@pytest.mark.parametrize(("out", "words"), [
    ("a-{sed}.png", r'unknown field \{sed\} \(did you mean "seed"\?\); known: \{seed\}, \{i\}, \{prompt\}, \{model\}'),
    ("{}.png", "unknown field"), ("{0.__class__}.png", "unknown field"), ("{seed!r}.png", "unknown field"),
    ("a.bmp", r"unknown ending '\.bmp'; use \.png, \.webp"), ("a", "unknown ending ''"), ("", "empty"),
    ("a.png", r"2 pictures into one file; put \{i\} in it, or give a folder$"),
    ("x" * 252 + "{i}.png", "at most 255 bytes"), ("a\0{i}.png", "none of them zero"),
])  # fmt: skip
def test_names_that_cannot_work(out: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan(out, cats(2), force=True)


def test_a_template_that_gives_some_names_twice() -> None:
    with pytest.raises(UsageError, match="two results would have the same name"):
        plan("{prompt}.png", [Result(0, 1, "cat"), Result(1, 2, "dog"), Result(2, 3, "Cat")], force=False)


@pytest.mark.parametrize(("name", "form"), [("a.PNG", "png"), ("a.jpg", "jpeg"), ("a.jpeg", "jpeg"), ("a.gif", "gif")])
def test_the_ending_picks_the_format(name: str, form: str) -> None:
    assert format_of(Path(name)) == form


def test_existing_files_are_replaced_only_by_force() -> None:
    Path("a.png").touch()
    Path("cat-11.png").touch()
    for out, count in (("a.png", 1), ("./", 2)):
        with pytest.raises(UsageError, match="exists already; -f replaces it"):
            plan(out, cats(count), force=False)
        assert len(plan(out, cats(count), force=True)) == count


def test_places_that_cannot_take_a_file_are_known_before_any_work() -> None:
    Path("file").touch()
    Path("d.png").mkdir()
    os.mkfifo("p.png")
    for path, words in (
        ("file/a.png", "is a file, not a folder"),
        ("d.png", "a folder"),
        ("p.png", "not a regular file"),
    ):
        with pytest.raises(UsageError, match=words):
            check_writable(Path(path), force=True)


def test_a_folder_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(WorldError, match="no permission to write in"):
        plan(None, cats(1), force=False)
