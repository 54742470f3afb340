"""The builder of the emoji set (examples/emoji) on small made-up packages: joins by name, the held-out rule, captions,
colours and composed pictures."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
import random
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageDraw

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "emoji"))

import build
import colours
import composing
import joining
import packages
import wording

from genctl.data.folder import scan
from genctl.metrics.retrieval import held_out_family, is_held_out

OLD = ("3d", "flat", "modern", "noto", "twemoji")
THINGS = {
    "1f408": {"label": "cat", "tags": ["animal", "pet", "kitten"]},
    "1f415": {"label": "dog", "tags": ["animal", "puppy"]},
    "1f680": {"label": "rocket", "tags": ["space"]},
    "1f3af": {"label": "bullseye", "tags": ["dart"]},
    "1fa85": {"label": "piñata", "tags": ["party"]},
    "1f9d1-200d-1f373": {"label": "cook", "tags": ["chef"]},
}


def disc(colour: str, side: int = 64, inner: str | None = None) -> Image.Image:
    """An RGBA disc that nearly fills the picture, perhaps with another within."""
    image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    pen.ellipse((2, 2, side - 3, side - 3), fill=colour)
    if inner:
        pen.ellipse((side // 3, side // 3, 2 * side // 3, 2 * side // 3), fill=inner)
    return image


def webp(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", lossless=True)
    return out.getvalue()


def row(label: str, key: str, style: str = "3d", **more: Any) -> dict[str, Any]:
    found = {"file_name": f"{style}/{key}.webp", "text": label, "tags": [], "style": style, "group": "animals-nature",
             "codepoint": key, "colours": [], "weight": 1.0, "split": "train", "family_split": "train"}  # fmt: skip
    return found | more


# joins by name


def joined(icons: list[str], aliases: dict[str, str] | None = None, fixed: dict[str, str] | None = None) -> Any:
    lists = joining.ways(THINGS, {"1f408": ["cat2"]}, {"space-ship": "1f680", "unknown": "1f999"})
    return joining.join(icons, aliases or {}, lists, fixed or {})


@pytest.mark.parametrize(
    ("icon", "key", "way"),
    [
        ("cat", "1f408", "label"),
        ("pin-ata", "1fa85", "label"),
        ("direct-hit", "1f3af", "unicode"),
        ("directhit", "1f3af", "unicode"),
        ("spaceship", "1f680", "other set"),
        ("cat-2", "1f408", "short code"),
        ("puppy", "1f415", "tag"),
        ("dog-1", "1f415", "label, first of a series"),
    ],
)
def test_an_icon_is_joined_by_any_of_its_names(icon: str, key: str, way: str) -> None:
    assert joined([icon]) == {key: (icon, way)}


@pytest.mark.parametrize("icon", ["animal", "cat-light-skin-tone", "dog-2", "unknown", "catfish", ""])
def test_what_is_ambiguous_or_unknown_joins_nothing(icon: str) -> None:
    assert joined([icon]) == {}


def test_a_better_name_wins_and_an_icon_draws_one_thing() -> None:
    assert joined(["cat2", "cat"]) == {"1f408": ("cat", "label")}
    assert joined(["hound"], {"dog": "hound", "cat": "hound"}) == {"1f415": ("hound", "label, by alias")}


def test_a_join_by_hand_goes_first_and_can_forbid() -> None:
    assert joined(["cat", "dog"], fixed={"cat": "1f415", "dog": ""}) == {"1f415": ("cat", "by hand")}
    assert joined(["dog"], fixed={"gone": "1f415"}) == {"1f415": ("dog", "label")}


def test_the_joins_by_hand_are_one_to_one_keys() -> None:
    for style in joining.BY_HAND:
        assert style in packages.NAMED
        keys = [key for key in joining.by_hand(style).values() if key]
        assert len(set(keys)) == len(keys)
        assert all(packages.key_of(key) == key for key in keys)


def test_an_icon_keeps_its_own_frame() -> None:
    icons = {"width": 48, "height": 32, "icons": {"a": {"body": "<g/>"}, "b": {"body": "<g/>", "width": 72, "left": 4}}}
    assert b'viewBox="0 0 48 32"' in packages.svg(icons, "a")
    assert b'viewBox="4 0 72 32"' in packages.svg(icons, "b")


# what is held out


def before(base: str, there: list[str]) -> dict[str, tuple[str, str]]:
    """The rule as it was with five styles, written out: style -> (split, family_split)."""

    def below(text: str) -> bool:
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") < 0.05 * 2**64

    family = {"3d": "fluent", "flat": "fluent", "modern": "fluent"}
    pairs = [style for style in there if below(f"{base}|{style}")]
    drawings = [style for style in there if below(f"{base}|{family.get(style, style)}")]
    return {
        style: (
            "test" if style in pairs and len(pairs) < len(there) else "train",
            "test" if style in drawings and len(drawings) < len(there) else "train",
        )
        for style in there
    }


def test_the_first_five_styles_keep_their_splits() -> None:
    draw = random.Random(0)
    kept, held = 0, 0
    for number in range(4000):
        base, there = f"{0x1F000 + number:x}", draw.sample(OLD, draw.choice([1, 1, 2, 5]))
        styles = {style: {base: b""} for style in [*there, *draw.sample(list(packages.NAMED), draw.choice([0, 1, 4]))]}
        made = build.concept_rows(base, base, "a label", [], "objects", 1.0, styles)
        splits = {row["style"]: (row["split"], row["family_split"]) for row in made}
        assert {style: splits[style] for style in there} == before(base, there)
        for style in set(splits) - set(there):
            assert splits[style][0] == ("test" if is_held_out(base, style) else "train")
            assert splits[style][1] == ("test" if held_out_family(base, style) else "train")
            held += splits[style][0] == "test"
        assert any(row["split"] == "train" for row in made)
        assert any(row["family_split"] == "train" for row in made)
        kept += any(build.held_out(f"{base}|{style}") and splits[style][0] == "train" for style in there)
    assert kept > 10  # the exception did occur
    assert held > 50


def test_a_tone_follows_its_base_whatever_styles_draw_it() -> None:
    base = next(f"{n:x}" for n in itertools.count(0x1F000) if is_held_out(f"{n:x}", "twemoji"))
    tone = f"{base}-1f3fb"
    styles = {"noto": {base: b""}, "twemoji": {base: b"", tone: b""}}
    for key in (base, tone):
        made = build.concept_rows(base, key, "a label", [], "people-body", 1.0, styles)
        assert {row["style"]: row["split"] for row in made}["twemoji"] == "test"


def test_a_thing_is_never_held_out_in_all_its_styles() -> None:
    key = next(f"{n:x}" for n in itertools.count(0x1F000) if is_held_out(f"{n:x}", "firefox"))
    alone = build.concept_rows(key, key, "a label", [], "objects", 1.0, {"firefox": {key: b""}})
    assert [row["split"] for row in alone] == ["train"]


# captions and colours


def test_captions_of_a_cat() -> None:
    made = wording.captions(row("cat", "1f408", "flat", tags=["cats", "kitten"]), "animal-mammal", ["orange"])
    assert made == ["a cat", "orange cat", "animal: cat", "cat, kitten", "cat, flat style"]


@pytest.mark.parametrize(
    ("label", "group", "subgroup"),
    [
        ("woman: blond hair", "people-body", "person"),
        ("keycap: 3", "symbols", "keycap"),
        ("flag: Chad", "flags", "country-flag"),
        ("ZZZ", "smileys-emotion", "emotion"),
        ("french fries", "food-drink", "food-prepared"),
        ("red apple", "food-drink", "food-fruit"),
        ("one o’clock", "travel-places", "time"),
        ("divide", "symbols", "math"),
    ],
)
def test_captions_are_several_and_distinct(label: str, group: str, subgroup: str) -> None:
    made = wording.captions(row(label, "1f000", group=group, tags=["first", "second"]), subgroup, ["red"])
    assert 3 <= len({label, *made}) - 1 == len(made) <= 5
    assert all(label in form for form in made)
    assert [form.endswith("style") for form in made] == [False] * (len(made) - 1) + [True]


def test_nobody_is_called_by_a_colour_and_no_colour_is_said_twice() -> None:
    person = wording.captions(row("cook", "1f000", group="people-body"), "person-role", ["brown"])
    apple = wording.captions(row("red apple", "1f34e"), "food-fruit", ["red"])
    assert not any("brown" in form for form in person)
    assert not any("red red" in form for form in apple)


@pytest.mark.parametrize(
    ("label", "names", "said"),
    [
        ("cat", ["orange"], "orange cat"),
        ("barber pole", ["red", "white"], "red and white barber pole"),
        ("keycap: 3", ["blue"], "keycap: 3, blue"),
        ("Aries", ["purple"], "Aries, purple"),
    ],
)
def test_a_colour_goes_before_the_name(label: str, names: list[str], said: str) -> None:
    assert wording.coloured(label, names) == said


@pytest.mark.parametrize(
    ("label", "subgroup", "one", "many"),
    [
        ("owl", "animal-bird", "an owl", "owls"),
        ("unicorn", "animal-mammal", "a unicorn", "unicorns"),
        ("ewe", "animal-mammal", "a ewe", "ewes"),
        ("computer mouse", "computer", "a computer mouse", "computer mice"),
        ("maple leaf", "plant-other", "a maple leaf", "maple leaves"),
        ("x-ray", "medical", "an x-ray", "x-rays"),
        ("strawberry", "food-fruit", "a strawberry", "strawberries"),
        ("fish", "animal-marine", "a fish", "fish"),
        ("bus", "transport-ground", "a bus", "buses"),
        ("key", "lock", "a key", "keys"),
    ],
)
def test_articles_and_plurals(label: str, subgroup: str, one: str, many: str) -> None:
    assert wording.countable(label, subgroup)
    assert (wording.with_article(label), wording.plural(label)) == (one, many)


@pytest.mark.parametrize(
    ("label", "subgroup"),
    [("bread", "food-prepared"), ("grapes", "food-fruit"), ("jeans", "clothing"), ("one o’clock", "time"),
     ("keycap: 3", "keycap"), ("up arrow", "arrow"), ("soft ice cream", "food-sweet"), ("fog", "sky-weather")],
)  # fmt: skip
def test_what_is_not_counted_takes_no_article(label: str, subgroup: str) -> None:
    assert not wording.countable(label, subgroup)


@pytest.mark.parametrize(
    ("rgb", "name"),
    [((0xDD, 0x2E, 0x44), "red"), ((0xF4, 0x90, 0x0C), "orange"), ((0xFF, 0xCC, 0x4D), "yellow"),
     ((0x78, 0xB1, 0x59), "green"), ((0x55, 0xAC, 0xEE), "blue"), ((0xAA, 0x8E, 0xD6), "purple"),
     ((0xF4, 0xAB, 0xBA), "pink"), ((0xFF, 0x5A, 0xB0), "pink"), ((0x66, 0x21, 0x13), "brown"),
     ((0xBF, 0x69, 0x52), "brown"), ((0x29, 0x2F, 0x33), "black"), ((0xFF, 0xFF, 0xFF), "white"),
     ((0x99, 0xAA, 0xB5), "grey"), ((0, 0, 0), "black"), ((0x00, 0xA6, 0x8F), "green")],
)  # fmt: skip
def test_basic_colours(rgb: tuple[int, int, int], name: str) -> None:
    assert colours.name_of(*rgb) == name


def test_the_share_of_a_colour_is_of_what_is_drawn() -> None:
    assert colours.named(colours.shares(disc("#dd2e44"))) == ["red"]  # and not the transparent ground
    assert colours.named(colours.shares(disc("#ffffff"))) == ["white"]
    assert colours.shares(Image.new("RGBA", (8, 8))) == {}
    assert colours.named({}) == []


@pytest.mark.parametrize(
    ("found", "names"),
    [
        ({"red": 0.55, "blue": 0.45}, ["red"]),
        ({"red": 0.5, "blue": 0.3, "white": 0.2}, ["red", "blue"]),
        ({"red": 0.54, "blue": 0.24, "white": 0.22}, []),
        ({"red": 0.5, "blue": 0.29, "white": 0.21}, []),
    ],
)
def test_colours_are_named_where_they_dominate(found: dict[str, float], names: list[str]) -> None:
    assert colours.named(found) == names


# composed pictures

TABLE = [
    row("cat", "1f408", colours=["orange"]),
    row("dog", "1f415", colours=["blue"]),
    row("owl", "1f989", colours=["red"]),
    row("fox", "1f98a", split="test"),
    row("ant", "1f41c", family_split="test"),
    row("grapes", "1f347", group="food-drink"),
    row("bear", "1f43b", "flat"),
    row("cow", "1f404", "flat"),
]
SUBGROUPS = {row["codepoint"]: "animal-mammal" for row in TABLE} | {"1f347": "food-fruit"}
PICTURES = {
    "1f408": webp(disc("#f4900c")),
    "1f415": webp(disc("#55acee")),
    "1f989": webp(disc("#dd2e44", inner="#fff")),
}


def planned(kind: str, count: int = 40, seed: int = 0) -> list[composing.Plan]:
    return list(itertools.islice(composing.plans(TABLE, SUBGROUPS, seed, kind), count))


def picture(plan: composing.Plan, pixels: int = 64) -> Image.Image:
    made = composing.compose((plan, [PICTURES[row["codepoint"]] for row in plan.rows], pixels))
    assert made is not None
    return Image.open(io.BytesIO(made)).convert("RGB")


def of_3d(plans: list[composing.Plan]) -> list[composing.Plan]:
    return [plan for plan in plans if plan.rows[0]["style"] == "3d"]


def pieces(image: Image.Image) -> list[tuple[int, int, int, int]]:
    """Boxes of the connected things on white."""
    ground = ImageChops.invert(image).convert("L").point(lambda level: 255 * (level > 12))
    found = []
    while box := ground.getbbox():
        y = box[1]
        x = next(x for x in range(box[0], box[2]) if ground.getpixel((x, y)) == 255)
        ImageDraw.floodfill(ground, (x, y), 128)
        found.append(ground.point(lambda level: 255 * (level == 128)).getbbox())
        ground = ground.point(lambda level: 0 if level == 128 else level)
    return found


@pytest.mark.parametrize("kind", ["two things", "number", "colour"])
def test_parts_are_of_one_style_and_never_held_out(kind: str) -> None:
    plans = planned(kind)
    assert plans
    for plan in plans:
        assert len({row["style"] for row in plan.rows}) == 1
        assert not {row["text"] for row in plan.rows} & {"fox", "ant", "grapes"}


@pytest.mark.parametrize("kind", ["two things", "number", "colour"])
def test_no_part_touches_the_edge_or_another(kind: str) -> None:
    made = 0
    for plan in of_3d(planned(kind)):
        if kind != "colour":
            boxes = pieces(picture(plan))
            assert len(boxes) == len(plan.rows)
            assert all(min(left, top) >= 2 and max(right, bottom) <= 62 for left, top, right, bottom in boxes)
            made += 1
        elif data := composing.compose((plan, [PICTURES[plan.rows[0]["codepoint"]]], 64)):
            [(left, top, right, bottom)] = pieces(Image.open(io.BytesIO(data)).convert("RGB"))
            assert min(left, top) >= 2
            assert max(right, bottom) <= 62
            made += 1
    assert made >= 3


def colour_at(image: Image.Image, box: tuple[int, int, int, int]) -> str:
    return colours.name_of(*image.getpixel(((box[0] + box[2]) // 2, box[1] + (box[3] - box[1]) // 5)))  # type: ignore[misc]


def test_captions_say_where_things_are() -> None:
    names = {"cat": "orange", "dog": "blue", "owl": "red"}
    seen = set()
    for plan in of_3d(planned("two things", 200)):
        image = picture(plan)
        boxes = pieces(image)
        first, second = (row["text"] for row in plan.rows)
        where = next(word for word in ("left of", "above") if word in plan.captions[0])
        side = 0 if where == "left of" else 1
        ordered = sorted(boxes, key=lambda box: box[side])
        assert [colour_at(image, box) for box in ordered] == [names[first], names[second]]
        assert ordered[0][side + 2] <= ordered[1][side]  # wholly
        one, other = wording.with_article(first), wording.with_article(second)
        back = {"left of": "to the right of", "above": "below"}[where]
        assert plan.captions[0].startswith(one)
        assert plan.captions[1:] == (f"{other} {back} {one}", f"{one} and {other}")
        seen.add(where)
    assert seen == {"left of", "above"}


def test_captions_count() -> None:
    said = set()
    for plan in of_3d(planned("number")):
        word = plan.captions[0].split()[0]
        assert len(pieces(picture(plan))) == {"two": 2, "three": 3, "four": 4}[word] == len(plan.rows)
        said.add(plan.captions[0])
    assert {"two cats", "three dogs", "four owls"} <= said
    assert any("orange cats" in form for plan in planned("number") for form in plan.captions)


def test_a_new_colour_comes_out_as_it_is_said_and_is_news() -> None:
    said = {}
    for plan in planned("colour"):
        if data := composing.compose((plan, [PICTURES[plan.rows[0]["codepoint"]]], 64)):
            said[plan.captions[0]] = plan.colour
            image = Image.open(io.BytesIO(data)).convert("RGBA")
            [box] = pieces(image.convert("RGB"))
            assert colour_at(image.convert("RGB"), box) == plan.colour
            assert plan.colour not in plan.rows[0]["colours"]
    assert len(set(said.values())) >= 4
    assert all(name.startswith(colour) for name, colour in said.items())


def test_only_the_dominant_colour_turns() -> None:
    made = composing.turned(disc("#dd2e44", inner="#ffffff"), "red", "green")
    assert colours.name_of(*made.getpixel((32, 8))[:3]) == "green"  # type: ignore[index]
    assert made.getpixel((32, 32)) == (255, 255, 255, 255)
    assert made.getpixel((0, 0))[3] == 0  # type: ignore[index]


def test_a_colour_that_does_not_come_out_is_not_drawn() -> None:
    plan = next(plan for plan in planned("colour") if plan.rows[0]["codepoint"] == "1f408")
    assert composing.compose((dataclasses.replace(plan, colour="purple"), [webp(disc("#292f33"))], 64)) is None


def test_composed_pictures_depend_on_the_seed_alone() -> None:
    def bytes_of(plans: list[composing.Plan]) -> list[bytes]:
        return [picture(plan).tobytes() for plan in of_3d(plans)]

    composing.part.cache_clear()
    first = bytes_of(planned("two things", 6))
    assert first == bytes_of(planned("two things", 6))
    assert first != bytes_of(planned("two things", 6, seed=1))


def test_a_small_set_runs_out_of_plans() -> None:
    assert len(planned("number", 10_000)) == 3 * 5  # five countable things of training, two to four of each
    assert list(composing.plans(TABLE[3:6], SUBGROUPS, 0, "two things")) == []


def test_a_combination_is_held_out_in_every_style_and_order() -> None:
    plan = planned("two things", 1)[0]
    for number in range(2000):
        some = dataclasses.replace(plan, combination=f"{number}")
        expected = "test" if build.held_out(f"pair|{number}") else "train"
        made = build.pair_row(some, number, 1.0)
        assert made["split"] == made["family_split"] == expected
        if expected == "test":
            break
    else:
        pytest.fail("nothing is held out")
    turned = dataclasses.replace(plan, rows=plan.rows[::-1])
    assert turned.combination == plan.combination == " + ".join(sorted(row["text"] for row in plan.rows))


# the whole


def package(path: Path, files: dict[str, Any]) -> Path:
    """An npm package with JSON files, or with bytes as they are."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


LABELS = {
    "1F408": ("cat", "#f4900c"),
    "1F415": ("dog", "#55acee"),
    "1F989": ("owl", "#dd2e44"),
    "1F40E": ("horse", "#78b159"),
}


def made_packages(folder: Path) -> dict[str, Path]:
    """All ten packages, small: four animals in each style."""
    body = {key: f'<circle cx="32" cy="32" r="28" fill="{colour}"/>' for key, (_, colour) in LABELS.items()}
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">'
    drawn = {key: f"{head}{circle}</svg>".encode() for key, circle in body.items()}
    icons = {LABELS[key][0]: {"body": circle} for key, circle in body.items()}
    named = {"width": 64, "height": 64, "icons": icons}
    data = [
        {"hexcode": key, "label": label, "tags": ["pet"], "group": 3, "subgroup": 34}
        for key, (label, _) in LABELS.items()
    ]
    points = {key.lower(): label for key, (label, _) in LABELS.items()}
    kinds = [{"order": 34, "key": "animal-mammal"}]
    files: dict[str, dict[str, Any]] = {
        "@lobehub/fluent-emoji-3d": {f"assets/{k.lower()}.webp": webp(disc(c)) for k, (_, c) in LABELS.items()},
        "@lobehub/fluent-emoji-flat": {f"assets/{k.lower()}.svg": d for k, d in drawn.items()},
        "@lobehub/fluent-emoji-modern": {f"assets/{k.lower()}.svg": d for k, d in drawn.items()},
        "@iconify-json/noto": {"icons.json": named, "chars.json": points},
        "@discordapp/twemoji": {f"dist/svg/{k.lower()}.svg": d for k, d in drawn.items()},
        "emojibase-data": {"en/data.json": data, "en/messages.json": {"subgroups": kinds},
                           "en/shortcodes/github.json": {"1F408": "cat2"}},
    }  # fmt: skip
    files |= {package: {"icons.json": named} for package in packages.NAMED.values()}
    sides = {"cat": "catside", "dog": "dogside", "owl": "owl", "horse": "horse"}  # there `cat` is a face
    files["@iconify-json/fxemoji"] = {"icons.json": named | {"icons": {sides[name]: icons[name] for name in icons}}}
    return {name: package(folder / f"{number}.tgz", content) for number, (name, content) in enumerate(files.items())}


def run(out: Path, paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch, *options: str) -> list[dict[str, Any]]:
    monkeypatch.setattr(build, "fetch", lambda folder: paths)
    monkeypatch.setattr(sys, "argv", ["build.py", str(out), "--pixels", "64", "--jobs", "1", *options])
    build.main()
    return [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]


def test_a_set_is_built_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("resvg_py")
    paths = made_packages(tmp_path)
    rows = run(tmp_path / "out", paths, monkeypatch, "--captions", "--pairs", "40")
    assert "firefox: 4 pictures (2 by hand, 2 label)" in capsys.readouterr().out
    alone = [row for row in rows if row["style"]]
    assert {row["style"] for row in alone} == set(packages.STYLES)
    assert len(alone) == 4 * len(packages.STYLES)
    cat = next(row for row in alone if row["file_name"] == "flat/1f408.webp")
    assert cat["text"] == ["cat", "a cat", "orange cat", "animal: cat", "cat, pet"]
    pairs = [row for row in rows if not row["style"]]
    assert len(pairs) == 40
    trained = {row["file_name"] for row in alone if row["split"] == row["family_split"] == "train"}
    assert all(set(row["drawn"]) <= trained for row in pairs)
    drawn = sum(row["weight"] for row in pairs) / sum(row["weight"] for row in rows)
    assert 0.12 < drawn < 0.18
    listing = scan(tmp_path / "out")
    assert len(listing.entries) == len(rows)
    entry = next(entry for entry in listing.entries if entry.file.parent.name == "pairs")
    assert len(entry.captions) >= 4
    assert entry.style == ""
    again = run(tmp_path / "again", paths, monkeypatch, "--captions", "--pairs", "40")
    assert again == rows
    assert all(
        (tmp_path / "again" / r["file_name"]).read_bytes() == (tmp_path / "out" / r["file_name"]).read_bytes()
        for r in rows
    )


def test_without_options_text_is_the_label_and_five_styles_can_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("resvg_py")
    rows = run(tmp_path / "out", made_packages(tmp_path), monkeypatch, "--styles", *OLD)
    assert {row["style"] for row in rows} == set(OLD)
    assert {row["text"] for row in rows} == {"cat", "dog", "owl", "horse"}
    assert not (tmp_path / "out" / "pairs").exists()
    assert all(3 <= len(row["captions"]) <= 5 for row in rows)


def test_a_package_with_other_bytes_is_refused(tmp_path: Path) -> None:
    name, version = next(iter(packages.PACKAGES)).rsplit("@", 1)
    (tmp_path / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz").write_bytes(b"other")
    with pytest.raises(SystemExit, match="not the expected bytes"):
        packages.fetch(tmp_path)


@pytest.mark.parametrize(
    ("label", "group", "said", "flips"),
    [
        ("cat", "animals-nature", [], True),
        ("backhand index pointing left", "people-body", [], False),
        ("three o’clock", "travel-places", [], False),
        ("Japanese “free of charge” button", "symbols", [], False),
        ("a cat to the left of a dog", "pairs: two things", ["a dog to the right of a cat"], False),
        ("a cat above a dog", "pairs: two things", ["a dog below a cat"], True),
    ],
)
def test_what_is_read_or_on_one_side_is_not_mirrored(label: str, group: str, said: list[str], flips: bool) -> None:
    made = row(label, "1f408", group=group, captions=[label, *said])
    assert wording.flips(made, "") is flips
    assert not wording.flips(made, "time")


def test_a_tag_that_is_another_things_label_is_left_out() -> None:
    table = [
        {"hexcode": "1F680", "label": "rocket", "tags": ["space", "Rocket"], "group": 4},
        {"hexcode": "1F9D1", "label": "astronaut", "tags": ["rocket", "space"], "group": 1},
    ]
    made, _ = build.rows(table, {}, {"noto": {"1f680": b"", "1f9d1": b""}}, False)
    assert [row["tags"] for row in made] == [["space", "Rocket"], ["space"]]
