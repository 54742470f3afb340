"""Composed pictures, which teach number, place and colour: two things beside or above each other, one thing two to four
times, one thing with its hue turned. All from training pictures of one style, on white, never touching the edge.

What is shown (which things, how many, in which colour) is a combination. A twentieth of the combinations, by their
hash, is held out: no picture of one is trained on, in whatever style or order.
"""

from __future__ import annotations

import colorsys
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import colours
import wording
from drawing import draw, encoded, on_white
from PIL import Image

NUMBERS = {2: "two", 3: "three", 4: "four"}
SHARES = (("two things", 0.4), ("number", 0.35), ("colour", 0.25))
TARGETS = {"red": 5, "orange": 28, "yellow": 50, "green": 125, "blue": 215, "purple": 275, "pink": 325}  # HSV degrees
SCENES = ("place-map", "place-geographic", "place-building", "place-religious", "place-other", "time")
TURNED = ("animal", "transport-ground", "transport-water", "transport-air", "clothing", "music", "musical-instrument",
          "sound", "phone", "computer", "light", "book", "office", "tool", "household", "sport", "game",
          "event")  # fmt: skip
OWN_COLOUR = """flamingo brick stop construction police taxi ambulance fire diamond heart spade club polar dollar candle
    christmas crayon frog chick panda pig zebra tiger lady bulb rainbow nazar necktie"""  # what is known by its colour
MARGIN, GAP = 0.045, 0.03  # of the side
WANDER = 0.2  # of the side: how far a part strays in its box, so that "above" stays above


@dataclass(frozen=True)
class Plan:
    """One composed picture to be: the rows whose pictures it shows, what is said of it, and where the parts go."""

    kind: str
    rows: tuple[dict[str, Any], ...]  # one a part, in the order of `boxes`
    captions: tuple[str, ...]
    combination: str
    boxes: tuple[tuple[float, float, float, float], ...]  # left, top, right, bottom as shares of the side
    seed: int
    colour: str = ""  # the new colour


def usable(row: dict[str, Any], subgroup: str) -> bool:
    """Whether a picture may be a part: trained on by either split, of one thing that is counted, and no scene."""
    trained = row["split"] == row["family_split"] == "train" and row["weight"] == 1
    things = row["group"] in ("animals-nature", "food-drink", "travel-places", "activities", "objects")
    single = wording.countable(row["text"], subgroup) and not wording.PARTS.search(row["text"])
    return trained and things and single and subgroup not in SCENES


def turnable(row: dict[str, Any], subgroup: str) -> bool:
    """Whether another colour would be news: one vivid colour dominates, and the name does not imply it."""
    vivid = len(row["colours"]) == 1 and row["colours"][0] in TARGETS
    words = set(wording.WORDS.findall(row["text"].lower()))
    kinds = any(subgroup == name or subgroup.startswith(name + "-") for name in TURNED)
    return vivid and kinds and words.isdisjoint(OWN_COLOUR.split()) and not wording.names_colour(row["text"])


def cells(count: int, across: bool) -> list[tuple[float, float, float, float]]:
    """Boxes of `count` parts: 2 and 3 in a row or a column, 4 two by two; shares of the side, edges kept clear."""
    columns, lines = (2, 2) if count == 4 else (count, 1) if across else (1, count)
    free = 1 - 2 * MARGIN
    wide, high = (free - GAP * (columns - 1)) / columns, (free - GAP * (lines - 1)) / lines
    found = []
    for index in range(count):
        left, top = MARGIN + index % columns * (wide + GAP), MARGIN + index // columns * (high + GAP)
        found.append((left, top, left + wide, top + high))
    return found


def two_things(draw: random.Random, pool: dict[str, list[dict[str, Any]]]) -> Plan:
    """Two different things of one style, side by side or one above the other."""
    style = draw.choice(sorted(pool))
    first, second = draw.sample(pool[style], 2)
    across = draw.random() < 0.5
    one, other = wording.with_article(first["text"]), wording.with_article(second["text"])
    both = sorted([first["text"], second["text"]])
    place = ("to the left of", "to the right of") if across else ("above", "below")
    said = (f"{one} {place[0]} {other}", f"{other} {place[1]} {one}", f"{one} and {other}")
    return Plan("two things", (first, second), said, " + ".join(both), tuple(cells(2, across)), draw.randrange(2**32))


def number(draw: random.Random, pool: dict[str, list[dict[str, Any]]]) -> Plan:
    """One thing two to four times."""
    row = draw.choice(pool[draw.choice(sorted(pool))])
    count = draw.choice(sorted(NUMBERS))
    many = wording.plural(row["text"])
    said = [f"{NUMBERS[count]} {many}", f"{count} {many}"]
    if len(row["colours"]) == 1 and not wording.names_colour(row["text"]):
        said.append(f"{NUMBERS[count]} {wording.coloured(many, row['colours'])}")
    boxes = tuple(cells(count, draw.random() < 0.5))
    return Plan("number", (row,) * count, tuple(said), said[0], boxes, draw.randrange(2**32))


def colour(draw: random.Random, pool: dict[str, list[dict[str, Any]]]) -> Plan:
    """One thing in another colour than its own."""
    row = draw.choice(pool[draw.choice(sorted(pool))])
    new = draw.choice([name for name in TARGETS if name not in row["usual"]])
    name = f"{new} {row['text']}"
    said = (name, wording.with_article(name), f"{wording.with_article(row['text'])} in {new}")
    return Plan("colour", (row,), said, name, tuple(cells(1, True)), draw.randrange(2**32), new)


MAKERS = {"two things": two_things, "number": number, "colour": colour}


def plans(table: list[dict[str, Any]], subgroups: dict[str, str], seed: int, kind: str) -> Any:
    """Endless plans of one kind, no picture asked for twice in one style; subgroups: key -> subgroup."""
    draw = random.Random(f"{seed} {kind}")
    usual: dict[str, set[str]] = {}  # the colours that a thing has in some style
    for row in table:
        usual.setdefault(row["codepoint"], set()).update(row["colours"])
    pool: dict[str, list[dict[str, Any]]] = {}
    for row in table:
        subgroup = subgroups[row["codepoint"]]
        if usable(row, subgroup) and (kind != "colour" or turnable(row, subgroup)):
            pool.setdefault(row["style"], []).append(row | {"usual": usual[row["codepoint"]]})
    if kind == "two things":
        pool = {style: mine for style, mine in pool.items() if len(mine) > 1}
    seen: set[tuple[str, str]] = set()
    tries = 0
    while pool and tries < 1000:  # a small set runs out of combinations
        plan = MAKERS[kind](draw, pool)
        tries += 1
        mark = (plan.captions[0], plan.rows[0]["style"])
        if mark not in seen:
            seen.add(mark)
            tries = 0
            yield plan


@lru_cache(maxsize=64)
def part(style: str, data: bytes, pixels: int) -> Image.Image:
    """A picture without its transparent border."""
    image = draw(style, data, pixels)
    return image.crop(image.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox())


def compose(job: tuple[Plan, list[bytes], int]) -> bytes | None:
    """A plan's picture as WebP bytes, or None where the new colour does not come out as the one that is said."""
    plan, data, pixels = job
    draw, side = random.Random(plan.seed), pixels
    canvas = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    scale = draw.uniform(0.85, 1)  # of all parts: their sizes beside each other stay as they are drawn
    for row, content, box in zip(plan.rows, data, plan.boxes, strict=True):
        image = part(row["style"], content, side)
        if plan.colour:
            image = turned(image, row["colours"][0], plan.colour)
            if colours.named(colours.shares(image)) != [plan.colour]:
                return None
        place(canvas, image, box, scale * draw.uniform(0.92, 1), draw)
    return encoded(on_white(canvas))


def place(
    canvas: Image.Image, image: Image.Image, box: tuple[float, float, float, float], scale: float, draw: random.Random
) -> None:
    """Put a part into its box, as large as fits times `scale`, anywhere within it."""
    left, top, right, bottom = (share * canvas.width for share in box)
    fit = scale * min((right - left) / image.width, (bottom - top) / image.height)
    size = max(1, int(image.width * fit)), max(1, int(image.height * fit))
    x, y = (
        (low + high - length) / 2 + (draw.random() - 0.5) * min(high - low - length, WANDER * canvas.width)
        for low, high, length in ((left, right, size[0]), (top, bottom, size[1]))
    )
    canvas.alpha_composite(image.resize(size, Image.Resampling.LANCZOS), (round(x), round(y)))


def turned(image: Image.Image, old: str, new: str) -> Image.Image:
    """The picture with pixels of the colour `old` turned to `new`, lightness kept; other colours stay."""
    table: dict[tuple[int, int, int], tuple[int, int, int]] = {}
    pixels = []
    flat = getattr(image, "get_flattened_data", None) or image.getdata  # the first from Pillow 12.1 on
    for red, green, blue, alpha in flat():
        key = (red, green, blue)
        if key not in table:
            table[key] = turned_colour(key, old, new)
        pixels.append((*table[key], alpha))
    made = Image.new("RGBA", image.size)
    made.putdata(pixels)
    return made


def turned_colour(rgb: tuple[int, int, int], old: str, new: str) -> tuple[int, int, int]:
    """One colour: its hue moved as `old` is to `new` where it lies within 40 degrees of `old`, less towards the rim."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in rgb))
    away = (hue * 360 - TARGETS[old] + 180) % 360 - 180
    if abs(away) > 40 or saturation < 0.08:
        return rgb
    spread = 0.35  # shades of one thing stay close together in hue
    made = colorsys.hsv_to_rgb((TARGETS[new] + spread * away) / 360 % 1, saturation, value)
    return tuple(round(255 * c) for c in made)  # type: ignore[return-value]
