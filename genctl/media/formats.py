"""Which files are taken for pictures, and which of Pillow's readers may look at one: by name, for Pillow would hand an
EPS to Ghostscript."""

from __future__ import annotations

import importlib.util
import io
import re

from PIL import Image

from genctl.errors import InputError

ENDINGS = (
    ".png", ".apng", ".jpg", ".jpeg", ".jfif", ".jpe", ".pjpeg", ".pjp", ".webp", ".gif", ".avif", ".bmp", ".tif",
    ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".heic", ".heif", ".hif",
)  # fmt: skip
FILMS = (".mp4", ".webm", ".mov", ".mkv", ".avi", ".m4v")
READERS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", *(b"P%d" % kind for kind in range(1, 7)))
SLOW = ("ppm", "ppm_plain")  # decoders of Pillow that work in Python: four seconds a megapixel
MOST_SLOW = 1_000_000  # pixels
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # of a JPEG's part; what it has within its pixels is none


def heic_ready() -> bool:
    """Whether HEIC can be read: by an extra, `pip install 'genctl[heic]'`."""
    return importlib.util.find_spec("pillow_heif") is not None


def open_picture(data: bytes, name: str = "") -> Image.Image:
    """Pillow's lazy picture over `data`, by one of our readers only. Raises what Pillow raises, and InputError for HEIC
    where it cannot be read and for a PPM of text, or of more than 8 bits, of more than a megapixel."""
    image = Image.open(io.BytesIO(data), formats=_formats(data, name))
    slow = image.format == "PPM" and any(tile[0] in SLOW for tile in getattr(image, "tile", ()))
    if slow and image.width * image.height > MOST_SLOW:
        raise InputError(f"{name}: a {image.width}x{image.height} PPM that is not of 8 bits, binary; save it as PNG")
    return image


def _formats(data: bytes, name: str) -> tuple[str, ...]:
    if data[4:8] != b"ftyp":
        return (*READERS, "TGA") if name.lower().endswith(".tga") else READERS  # a TGA has no first bytes of its own
    brands = brands_of(data)
    if brands & {b"avif", b"avis"} or not brands & set(HEIC):
        return ("AVIF",)  # asked for only when it is one: not every build of Pillow reads it
    if not heic_ready():
        raise InputError(f"{name}: HEIC needs pip install 'genctl[heic]'; or save it as JPEG or PNG")
    import pillow_heif

    pillow_heif.register_heif_opener()
    return ("HEIF",)


def plain_jpeg(data: bytes) -> bytes:
    """A JPEG without its APPn and comment parts, which are no pixels."""
    kept, place = bytearray(data[:2]), 2
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] not in (b"\xda", b"\xd9", b""):
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if not (0xE0 <= data[place + 1] <= 0xEF or data[place + 1] == 0xFE):
            kept += data[place:end]
        place = end
    return bytes(kept + data[place:])


def scans(data: bytes) -> int:
    """How many scans a JPEG has; thumbnails within and films after it are not counted."""
    found, place = 0, 2
    while match := MARKER.search(data, place):
        place, kind = match.end(), data[match.end() - 1]
        if kind == 0xD9:  # its end
            break
        found += kind == 0xDA
        place += int.from_bytes(data[place : place + 2], "big")
    return found


def brands_of(data: bytes) -> set[bytes]:
    """What a file in MP4's container says that it is, in its first 64 bytes."""
    return {data[place : place + 4] for place in (8, *range(16, min(64, int.from_bytes(data[:4], "big")), 4))}


def looks_like_film(first: bytes) -> bool:
    """Whether a file that begins with these bytes is MP4 or QuickTime (pictures have that container too, under brands
    of their own), Matroska or WebM, or AVI."""
    if first[4:8] == b"ftyp":
        return not brands_of(first) & {b"avif", b"avis", b"mif2", *HEIC}
    return first.startswith(b"\x1a\x45\xdf\xa3") or (first[:4] == b"RIFF" and first[8:12] == b"AVI ")


def looks_like_picture(first: bytes) -> bool:
    """Whether a file that begins with these (at least 12) bytes is of one of our formats; TGA has no first bytes."""
    return first.startswith(STARTS) or (first[:4] == b"RIFF" and first[8:12] == b"WEBP") or first[4:8] == b"ftyp"
