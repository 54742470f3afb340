"""Which named colours a drawing has, by the share of its area: simple bounds in Oklch, a space made so that equal steps
look equal. Near-greys are black, grey or white by lightness; brown is dark orange, pink is light or purplish red."""

from __future__ import annotations

import math
from functools import cache

from PIL import Image

NAMES = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")
HUES = ((12, "pink"), (42, "red"), (75, "orange"), (112, "yellow"), (182, "green"), (278, "blue"), (322, "purple"),
        (361, "pink"))  # fmt: skip
ONE, TWO = 0.55, 0.8  # share of the drawn area that one colour, or two together, must have to be named
SECOND = 0.25  # and the smaller of the two alone
GRID = 64  # pixels a side that are looked at


def oklch(red: int, green: int, blue: int) -> tuple[float, float, float]:
    """Lightness 0..1, chroma (0 grey, .3 vivid) and hue in degrees of an sRGB colour (0..255)."""
    r, g, b = (linear(value / 255) for value in (red, green, blue))
    long = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3)
    middle = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3)
    short = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3)
    light = 0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short
    a = 1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short
    c = 0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short
    return light, math.hypot(a, c), math.degrees(math.atan2(c, a)) % 360


def linear(value: float) -> float:
    """sRGB (0..1) as light."""
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


@cache
def name_of(red: int, green: int, blue: int) -> str:
    """The basic colour that an sRGB colour (0..255) would be called."""
    light, chroma, hue = oklch(red, green, blue)
    slate = 200 < hue < 280 and chroma < 0.05 and light < 0.85  # greys with a touch of blue
    if chroma < 0.035 or light < 0.25 or slate:
        return "black" if light < 0.42 else "white" if light > 0.9 else "grey"
    name = next(name for limit, name in HUES if hue < limit)
    if name in ("orange", "yellow") and (light < 0.62 or (chroma < 0.12 and light < 0.8)):
        return "brown" if hue < 105 else "green"
    if name == "red" and (light < 0.42 or (chroma < 0.125 and light < 0.66)):
        return "brown"
    if name == "red" and light > 0.72:
        return "pink"
    if name == "pink" and 300 < hue < 350 and light < 0.5:
        return "purple"
    return name


def shares(image: Image.Image) -> dict[str, float]:
    """Share of each colour in the opaque area of an RGBA picture, largest first; {} where nothing is drawn."""
    small = image.resize((GRID, GRID), Image.Resampling.NEAREST)
    counts: dict[str, int] = {}
    for count, (red, green, blue, alpha) in small.getcolors(GRID * GRID):  # type: ignore[union-attr,misc]
        if alpha >= 128:
            name = name_of(red & 0xF8 | 4, green & 0xF8 | 4, blue & 0xF8 | 4)
            counts[name] = counts.get(name, 0) + count
    total = sum(counts.values())
    return {name: count / total for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))}


def named(found: dict[str, float]) -> list[str]:
    """The one colour that dominates, the two that do together, or none."""
    first, *rest = [*found.items(), ("", 0.0)]
    if first[1] >= ONE:
        return [first[0]]
    if rest and first[1] + rest[0][1] >= TWO and rest[0][1] >= SECOND:
        return [first[0], rest[0][0]]
    return []
