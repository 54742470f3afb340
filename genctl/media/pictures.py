"""Pictures from bytes: any common format, on white, upright, eight bits a channel; and to and from tensors.

Inside the program a picture is float32 in [-1, 1], [3, H, W]; a store of many is uint8. Reading never trusts the file:
what is not a whole picture is an InputError that names it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from PIL import Image, ImageMath, ImageOps, UnidentifiedImageError

from genctl.errors import InputError
from genctl.media.colour import ToSRGB, png_profile, to_srgb
from genctl.media.formats import looks_like_film, open_picture, plain_jpeg, scans
from genctl.media.png import PNG_START, ancillary, first_bytes, png_chunks
from genctl.media.rows import check_rows
from genctl.sizes import Size

if TYPE_CHECKING:
    from torch import Tensor

GIVE = "give a PNG, JPEG, WebP or GIF"
MOST_PIXELS = 110_000_000  # 880 MB while a picture is turned or laid on white; above, it is taken for a bomb
MOST_WORKED = 25_000_000  # of a picture that goes through a network
MOST_TOGETHER = 64_000_000  # of all frames of a clip or walk: three numbers a pixel lie in memory
MOST_SIDE = 65_535
MOST_SCANS = 200  # of a JPEG; each goes through all of it anew
JPEG_START = b"\xff\xd8"
NEEDED = (b"tRNS", b"eXIf")  # parts of a PNG that are no pixels, and yet say how the picture looks
Remark = Callable[[str], None]
BAND = 256  # rows that are laid on white at a time

# Once, for the process: readers run in threads, where warnings.catch_warnings would race. What Pillow only warns of is
# said by our own errors, or does not matter for the pixels (a damaged EXIF block).
Image.MAX_IMAGE_PIXELS = MOST_PIXELS
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its remarks on bad files go to stderr by themselves


def read_picture(data: bytes, name: str, remark: Remark = lambda line: None) -> Image.Image:
    """The RGB picture in `data`: first frame, EXIF rotation applied, its colour profile turned into sRGB, transparency
    laid on white, 16 bits scaled to 8. `remark` gets what a person should know of it, a line each.

    Raises InputError, naming `name`, for anything that is not a whole picture of at most 110 megapixels.
    """
    with refused(data, name):
        return on_white(*_read(data, name, remark))


def read_mask(data: bytes, name: str, remark: Remark = lambda line: None) -> Image.Image:
    """The mask in `data` as grey, transparency laid on black: what is transparent is kept. Raises InputError."""
    with refused(data, name):
        return as_mask(_read(data, name, remark)[0])


def as_mask(image: Image.Image) -> Image.Image:
    """A picture of any mode as grey on black."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        upper = image.convert("RGBA")
        lower = Image.new("RGB", upper.size, "black")
        lower.paste(upper, mask=upper)
        return lower.convert("L")
    return on_white(image).convert("L")


@contextlib.contextmanager
def refused(data: bytes, name: str, what: str = "picture") -> Iterator[None]:
    """Whatever goes wrong within is an InputError that names the picture (or `what` it is)."""
    try:
        yield
    except (MemoryError, InputError):
        raise
    except UnidentifiedImageError:
        if looks_like_film(data[:64]):
            raise InputError(f"{name}: a film; {GIVE} (models of clips take films)") from None
        raise InputError(f"{name}: not an image ({first_bytes(data)}); {GIVE}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"{name}: more than {MOST_PIXELS / 1e6:.0f} megapixels; make it smaller first") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{name}: a damaged {what} ({reason})") from None


def _read(data: bytes, name: str, remark: Remark) -> tuple[Image.Image, ToSRGB | None]:
    """The whole picture, upright, and what turns its colours into sRGB."""
    if not data:
        raise InputError(f"{name}: empty; {GIVE}")
    kept, profile = _without_metadata(data, name, remark)
    image = _opened(kept, name, remark)
    if image.width * image.height > MOST_PIXELS:
        raise Image.DecompressionBombError
    if max(image.size) > MOST_SIDE:
        raise ValueError(f"a side of {max(image.size)} pixels, and at most {MOST_SIDE} are read")
    if data.startswith(JPEG_START) and scans(data) > MOST_SCANS:
        raise ValueError(f"a JPEG of more than {MOST_SCANS} scans")
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a photograph with its own thumbnail
        _remark_frames(name, remark)
    image.load()
    image.info.update({"icc_profile": profile} if profile else {})
    turn = turn_of(image, name, remark)
    return upright(image), turn


def _without_metadata(data: bytes, name: str, remark: Remark) -> tuple[bytes, bytes | None]:
    """A picture's file without all that says nothing of its pixels, which may be damaged or larger than Pillow reads,
    and its profile if that was taken out as well. A PNG is checked to be whole, which Pillow does not ask for."""
    if not data.startswith(PNG_START):
        return data, None
    parts = list(png_chunks(io.BytesIO(data), name))
    check_rows(parts, name)
    profile = None
    for part in parts:
        if part[4:8] == b"iCCP":
            with _unused_profile(name, remark):
                profile = png_profile(part[8:-4])
        if part[4:8] == b"acTL" and int.from_bytes(part[8:12], "big") > 1:
            _remark_frames(name, remark)
    kept = [part for part in parts if part == PNG_START or part[4:8] in NEEDED or not ancillary(part[4:8])]
    return b"".join(kept), profile


def _opened(data: bytes, name: str, remark: Remark) -> Image.Image:
    """Pillow's lazy picture, of a JPEG whose camera's or editor's parts cannot be read without them."""
    try:
        return open_picture(data, name)
    except UnidentifiedImageError:
        if not data.startswith(JPEG_START):
            raise
        image = open_picture(plain_jpeg(data), name)
        remark(f"{name}: what it says beside the picture is damaged and ignored")
        return image


def _remark_frames(name: str, remark: Remark) -> None:
    remark(f"{name}: has several frames, of which the first is used")


def turn_of(image: Image.Image, name: str, remark: Remark) -> ToSRGB | None:
    """What turns a picture's colours into sRGB, by the profile that it carries; None where there is nothing to do."""
    with _unused_profile(name, remark):
        return to_srgb(image.info.get("icc_profile"), image.mode)
    return None


@contextlib.contextmanager
def _unused_profile(name: str, remark: Remark) -> Iterator[None]:
    """A colour profile that cannot be used is no reason to refuse a picture."""
    try:
        yield
    except ValueError as error:
        remark(f"{name}: its colour profile is ignored ({str(error)[:100]}), and its colours are taken for sRGB")


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF says; one whose EXIF cannot be read stays as it is."""
    with contextlib.suppress(Exception):  # the pixels are whole; a damaged camera block is no reason to refuse them
        ImageOps.exif_transpose(image, in_place=True)
    return image


def on_white(image: Image.Image, turn: ToSRGB | None = None) -> Image.Image:
    """RGB on white from any mode, its colours turned into sRGB first. `convert("RGB")` alone would show the hidden
    colour of transparent pixels.

    Raises ValueError for pixels without a known range (floating point, 32 bits).
    """
    if image.mode == "F" or (image.mode == "I" and not 0 <= _extremes(image)[0] <= _extremes(image)[1] < 1 << 16):
        raise ValueError("its pixels are 32-bit numbers; save it with 8 or 16 bits")
    if image.mode == "RGB" and "transparency" not in image.info and turn is None:
        return image
    whole = Image.new("RGB", image.size)
    for top in range(0, image.height, BAND):  # a large picture in three copies would fill the memory
        band = image.crop((0, top, image.width, min(top + BAND, image.height)))
        whole.paste(_band_on_white(band, turn), (0, top))
    return whole


def _band_on_white(image: Image.Image, turn: ToSRGB | None) -> Image.Image:
    if image.mode.startswith("I"):
        grey = _from_16_bits(image)
        return grey if turn is None else turn(grey)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        upper = image.convert("RGBA")
        upper = upper if turn is None else turn(upper)
        lower = Image.new("RGB", upper.size, "white")
        lower.paste(upper, mask=upper)
        return lower
    if turn is not None:
        return turn(image)
    return image.convert("RGB")


def _extremes(image: Image.Image) -> tuple[int, int]:
    return image.getextrema()  # type: ignore[return-value]


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Grey in 0..65535 -> RGB; the one value that a PNG may name as transparent becomes white."""
    grey = image.convert("F").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    hidden = image.info.get("transparency")
    if isinstance(hidden, int):
        mask = ImageMath.lambda_eval(lambda these: these["pixels"] == hidden, pixels=image.convert("I"))
        grey.paste(255, mask=mask.point(lambda value: value * 255).convert("L"))
    return grey.convert("RGB")


def fit(image: Image.Image, size: Size | int, how: Literal["crop", "pad"] = "crop") -> Image.Image:
    """A picture of this size: resized to cover it and its middle cropped, or to lie within it with white around."""
    wide = Size.of(size).wide
    if image.size == wide:
        return image
    if how == "crop":
        return ImageOps.fit(image, wide, Image.Resampling.LANCZOS)
    return ImageOps.pad(image, wide, Image.Resampling.LANCZOS, color="white")


def crops(image: Image.Image, size: Size) -> bool:
    """Whether `fit` to this size loses more of a picture than a pixel's rounding."""
    return abs(image.width * size.height - image.height * size.width) > max(image.size)


def to_tensor(image: Image.Image) -> Tensor:
    """RGB picture -> uint8 [3, H, W]."""
    import torch

    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.view(image.height, image.width, 3).permute(2, 0, 1).contiguous()


def pad_to(pixels: Tensor, multiple: int) -> Tensor:
    """uint8 [3, H, W] with white added on the right and below, so that the sides are multiples."""
    import torch

    height, width = pixels.shape[1:]
    return torch.nn.functional.pad(pixels, (0, -width % multiple, 0, -height % multiple), value=255)


def to_float(pixels: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]."""
    return pixels.float().div_(127.5).sub_(1)


def to_uint8(pictures: Tensor) -> Tensor:
    """Float in [-1, 1] -> uint8, rounded and clamped."""
    import torch

    return ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def refuse_large(width: int, height: int, name: str = "a picture") -> None:
    """Raise InputError for a picture of more pixels than networks work on."""
    if width * height > MOST_WORKED:
        what = f"{width}x{height}, and at most {MOST_WORKED // 1_000_000} megapixels are encoded or decoded"
        raise InputError(f"{name}: {what}; make it smaller first (or give encode a --size)")


def refuse_many(frames: int, width: int, height: int, name: str = "a clip") -> None:
    """Raise InputError for more pixels in all frames than are held at once."""
    if (total := frames * width * height) > MOST_TOGETHER:
        what = f"{frames:,} frames or more of {width}x{height} are {total / 1e6:,.0f} megapixels"
        raise InputError(
            f"{name}: {what}, and at most {MOST_TOGETHER // 1_000_000} fit; make it smaller or shorter first"
        )


def refuse_infinite(pictures: Tensor) -> Tensor:
    """The pictures as they are. Raises InputError where a number is not finite."""
    if not bool(pictures.isfinite().all()):
        raise InputError(
            "there is no picture: the model's numbers are not finite (by a guidance scale, weights of --also or codes "
            "too large, or a model that diverged)"
        )
    return pictures


def to_image(picture: Tensor) -> Image.Image:
    """float [3, H, W] in [-1, 1] (or uint8) -> RGB picture. Raises InputError for numbers that are not finite: what was
    asked for was too much for the model, and the picture would show nothing of it."""
    from genctl.files import tensor_bytes

    if picture.is_floating_point():
        refuse_infinite(picture)
    pixels = to_uint8(picture) if picture.is_floating_point() else picture
    assert str(pixels.dtype) == "torch.uint8", f"a picture of {pixels.dtype}"
    height, width = pixels.shape[-2:]
    return Image.frombytes("RGB", (width, height), tensor_bytes(pixels.permute(1, 2, 0).cpu().contiguous()))
