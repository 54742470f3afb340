"""A sentence beside each figure: what it is compared with, and whether it is good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WORDS = ("good", "fair", "poor")


def reconstruction(psnr: float, lpips: float) -> str:
    """Of a codec's PSNR (dB) and LPIPS. Above 30 dB a drawing is hard to tell from its original at its own size."""
    if psnr >= 30 and lpips <= 0.05:
        return "good: hard to tell from the originals at their own size"
    if psnr >= 26 and lpips <= 0.12:
        return "fair: shapes and colours hold, fine detail is lost"
    return "poor: it was not made for such pictures; a codec trained on them (--init vae) does better"


def clip_reconstruction(clips: Mapping[str, float], alone: Mapping[str, float]) -> str:
    """Of a clip codec's PSNR (dB) and temporal error, beside the same codec's of frames coded one by one, which take
    more code frames."""
    lost = alone["psnr"] - clips["psnr"]
    calm = clips["temporal"] <= alone["temporal"]
    word = "good" if lost <= 0.1 and calm else "fair" if lost <= 1 else "poor"
    return (
        f"{word}: {abs(lost):.1f} dB {'less' if lost > 0 else 'more'} than with each frame coded alone, "
        f"and differences between frames are rendered {'better' if calm else 'worse'}"
    )


def retrieval(drawn: Mapping[str, float], ceiling: Mapping[str, float], chance: float) -> str:
    """Of the share of drawn pictures that show what was asked for, between chance and real pictures."""
    if "top1" not in drawn or "top1" not in ceiling:
        return "nothing to compare: no other style draws what was asked for"
    way = (drawn["top1"] - chance) / max(ceiling["top1"] - chance, 1e-9)
    found = f"{100 * drawn['top1']:.1f} of 100 are found as what was asked for"
    between = f"by chance {100 * chance:.2g}, real pictures {100 * ceiling['top1']:.1f}"
    return f"{_word(1 - way, 0.3, 0.7)}: {found}; {between}"


def distance(figures: Mapping[str, Any]) -> str:
    """Of a Frechet distance, beside that of real pictures that were held out."""
    floor = figures.get("floor", {}).get("frechet")
    if floor is None:
        return "lower is better; too few pictures are held out to say what real ones score"
    times = figures.get("as_few", figures)["frechet"] / max(floor, 1e-9)
    return f"{_word(times, 1.3, 2.0)}: {times:.1f} times what as many real pictures score ({floor:g}); lower is better"


def memorised(figures: Mapping[str, Any]) -> str:
    """Of the share of near copies, beside the same among held-out pictures, which cannot be copies."""
    copies, twins = figures["copies"], figures.get("held_out", {}).get("copies")
    many = f"{100 * copies:.1f} of 100 samples are near copies of a training picture"
    if twins is None:
        return f"{many}; nothing is held out to compare with"
    word = "good: no sign of copying" if copies <= twins + 0.02 else "it copies" if copies > 0.1 else "some copies"
    return f"{word}; {many}, and {100 * twins:.1f} of 100 held-out pictures have such a twin"


def motion(figures: Mapping[str, Any]) -> str:
    """Of how drawn clips move, beside the range of real ones."""
    said, good = [], True
    for name, low, high in (("difference", "they stand still", "they flicker"), ("order", "smooth", "they jump about")):
        (least, most), middle = figures[name]["real_range"], figures[name]["median"]
        off = low if middle < least else high if middle > most else ""
        said.append(f"{name} {middle:g}, real clips {least:g} to {most:g}{f' ({off})' if off else ''}")
        good = good and not off
    return f"{'good' if good else 'poor'}: {'; '.join(said)}"


def bits(ode: float, png: float) -> str:
    """Of bits a number (a colour of a pixel), beside uniform noise and what a PNG takes."""
    word = "good" if ode < 0.8 * png else "fair" if ode < png else "poor"
    return f"{word}: 8 bits a number are uniform noise, a PNG of these pictures takes {png:.2f}; lower is better"


def token_bits(bits: float, most: float) -> str:
    """Of bits a token, beside those of tokens that are all as likely."""
    said = f"{most:.2f} bits a token are pure chance, which this is {bits / most:.0%} of; lower is better"
    return f"{'good' if bits < 0.5 * most else 'fair' if bits < 0.75 * most else 'poor'}: {said}"


def _word(value: float, good: float, fair: float) -> str:
    """`value` is better the lower it is."""
    return WORDS[(value > good) + (value > fair)]
