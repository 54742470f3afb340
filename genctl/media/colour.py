"""Colour profiles: a picture's numbers turned into sRGB, which is what the rest of the program takes them for."""

from __future__ import annotations

import functools
import io
import zlib
from dataclasses import dataclass
from typing import Any

from PIL import Image, features

MOST_PROFILE = 16 << 20  # bytes of a profile; a printer's have one or two million
SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
LATTICE = 17  # levels a channel of the colours that tell whether a profile changes anything


@dataclass(frozen=True)
class ToSRGB:
    """A profile's way into sRGB, from pictures of `mode` ("RGB", "L" or "CMYK")."""

    mode: str
    transform: Any

    def __call__(self, image: Image.Image) -> Image.Image:
        """An RGB picture from one of this mode, or from RGBA, whose transparency it keeps."""
        from PIL import ImageCms

        plain = image.convert(self.mode) if image.mode != self.mode else image
        made: Any = ImageCms.applyTransform(plain, self.transform)
        if image.mode in ("RGBA", "LA"):
            made.putalpha(image.getchannel("A"))
        return made


def to_srgb(profile: bytes | None, mode: str) -> ToSRGB | None:
    """The way from a profile into sRGB for pictures of Pillow's `mode`; None where there is no profile, or it is sRGB
    itself. Raises ValueError that says why a profile cannot be used."""
    if not profile:
        return None
    made = _transform(profile)
    if made is None:
        return None
    wanted = "L" if mode[0] in "L1I" and mode != "LAB" else "CMYK" if mode == "CMYK" else "RGB"
    if made.mode != wanted:
        raise ValueError(f"it is for {made.mode}, the picture is {wanted}")
    return made


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes) -> ToSRGB | None:
    if len(profile) > MOST_PROFILE:
        raise ValueError(f"it has more than {MOST_PROFILE >> 20} MiB")
    if not features.check("littlecms2"):
        raise ValueError("this Pillow has no LittleCMS")
    from PIL import ImageCms

    try:
        source = ImageCms.getOpenProfile(io.BytesIO(profile))
        mode = SPACES.get(source.profile.xcolor_space)
        if mode is None:
            raise ValueError(f"its colour space is {source.profile.xcolor_space.strip()!r}")
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError) as error:
        raise ValueError(" ".join(str(error).split()) or "it is damaged") from None
    made = ToSRGB(mode, transform)
    return None if _changes_nothing(made) else made


def _changes_nothing(made: ToSRGB) -> bool:
    """Whether no colour moves by more than a level: a profile may be sRGB under any name."""
    if made.mode == "CMYK":
        return False
    levels = [round(index * 255 / (LATTICE - 1)) for index in range(LATTICE)]
    if made.mode == "L":
        colours = bytes(levels)
    else:
        colours = bytes(channel for r in levels for g in levels for b in levels for channel in (r, g, b))
    lattice = Image.frombytes(made.mode, (LATTICE, len(colours) // LATTICE // len(made.mode)), colours)
    moved = made(lattice).tobytes()
    return all(abs(a - b) <= 1 for a, b in zip(moved, lattice.convert("RGB").tobytes(), strict=True))


def png_profile(body: bytes) -> bytes:
    """The profile in a PNG's iCCP part: a name, a zero, a zero, zlib. Raises ValueError."""
    _, zero, rest = body.partition(b"\0")
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(rest[1:], MOST_PROFILE + 1)
    except zlib.error:
        raise ValueError("it cannot be unpacked") from None
    if not zero or not (unpacker.eof or len(profile) > MOST_PROFILE):
        raise ValueError("it is cut off")
    return profile
