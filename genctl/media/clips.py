"""Clips from and to files: animated WebP, GIF and PNG by Pillow, films (mp4, webm, mov, mkv, avi) by PyAV, which is an
extra: `pip install 'genctl[video]'`. A clip within the program is frames of one size, so many a second.

Frames of a file come one after another with the seconds that each is shown; a long film is never decoded whole.
"""

from __future__ import annotations

import importlib.util
import io
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from genctl.errors import InputError, UsageError
from genctl.media.formats import FILMS, looks_like_film, looks_like_picture, open_picture
from genctl.media.pictures import MOST_PIXELS, on_white, read_picture, refuse_many, refused, turn_of, upright
from genctl.media.png import PNG_START, first_bytes, png_chunks
from genctl.media.rows import check_rows
from genctl.media.stream import opened

CODECS = {"mp4": "libx264", "webm": "libvpx-vp9"}  # of films that are written
EXTRA = "films need pip install 'genctl[video]'"
UNSAID = 0.1  # seconds of a frame that says none, as browsers have it
ALIKE = 0.1  # relative difference of a file's rate and the one asked for, below which its frames are taken as they are
MOST_FRAMES = 4096  # of one clip, at the rate that is asked for
MOST_STORED = 100_000  # frames of one file
QUALITY = "16"  # constant rate factor: near to lossless, for what is looked at frame by frame
Frame = tuple[Image.Image, float]  # an RGB picture on white, and the seconds that it is shown


def films_ready() -> bool:
    """Whether films can be read and written: by an extra."""
    return importlib.util.find_spec("av") is not None


def is_film(path: Path) -> bool:
    """By its name, where its bytes are not known yet."""
    return path.suffix.lower() in FILMS


def holds_film(data: bytes, name: str) -> bool:
    """Whether a file is a film by its first bytes, or by its name where these say nothing."""
    return looks_like_film(data[:64]) or (is_film(Path(name)) and not looks_like_picture(data[:64]))


def film_at(path: Path) -> bool:
    """Whether the file is a film; False for what cannot be read."""
    try:
        with opened(path) as file:
            return holds_film(file.read(64), str(path))
    except (OSError, ValueError):
        return False


def frames_of(data: bytes, name: str) -> Iterator[Frame]:
    """The frames of a file's bytes in order; a picture has one. Raises InputError, naming `name`, for what is none, or
    is damaged."""
    return _film(data, name) if holds_film(data, name) else _animation(data, name)


def _animation(data: bytes, name: str) -> Iterator[Frame]:
    with refused(data, name):
        if not _moves(data, name):
            yield read_picture(data, name), UNSAID
            return
        if data.startswith(PNG_START):
            check_rows(list(png_chunks(io.BytesIO(data), name)), name)
        image = open_picture(data, name)
        turn = turn_of(image, name, lambda line: None)
        count = getattr(image, "n_frames", 1)
        _refuse_stored(count, name)
        for place in range(int(bool(getattr(image, "default_image", False))), count):  # which is no frame of an APNG
            image.seek(place)
            image.load()
            seconds = image.info.get("duration", 0) / 1000
            frame = upright(image.convert("RGBA") if image.mode == "P" else image.copy())  # the next takes its place
            yield on_white(frame, turn), seconds or UNSAID


def _moves(data: bytes, name: str) -> bool:
    """Whether a picture's file has frames of a clip: not pages, nor a photograph beside its thumbnail."""
    try:
        image = open_picture(data, name)
        return getattr(image, "n_frames", 1) > 1 and image.format not in ("MPO", "TIFF")
    except UnidentifiedImageError:
        return False  # `read_picture` says what it is


def _film(data: bytes, name: str) -> Iterator[Frame]:
    """Upright, whatever the camera's position; sound is passed over."""
    if not films_ready():
        raise InputError(f"{name}: {EXTRA}; or save it as WebP or GIF")
    import av

    if not data:
        raise InputError(f"{name}: empty")
    with refused(data, name, "film"), av.open(io.BytesIO(data), "r") as film:
        if not film.streams.video:
            raise InputError(f"{name}: a file without moving pictures ({first_bytes(data)})")
        usual = 1 / float(film.streams.video[0].average_rate or 1 / UNSAID)
        before: Any = None
        for number, frame in enumerate(film.decode(video=0), 1):
            _refuse_stored(number, name)
            if frame.width * frame.height > MOST_PIXELS:
                raise InputError(f"{name}: more than {MOST_PIXELS / 1e6:.0f} megapixels a frame; make it smaller first")
            if before is not None:
                lasts = usual if None in (before.time, frame.time) else frame.time - before.time
                yield _upright(before), max(lasts, 0.0)
            before = frame
        if before is None:
            raise ValueError("no frame in it")
        yield _upright(before), usual


def _refuse_stored(count: int, name: str) -> None:
    if count > MOST_STORED:
        raise InputError(f"{name}: more than {MOST_STORED:,} frames; cut it first")


def _upright(frame: Any) -> Image.Image:
    image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def at_rate(frames: Iterable[Frame], fps: float, repeats: int = MOST_FRAMES) -> Iterator[Image.Image]:
    """Frames as many a second, the one shown in the middle of each step; a file whose own rate is within a tenth of
    that is taken frame by frame, so that a loop stays one. Of one that is shown for long at most so many `repeats`."""
    shown, made = 0.0, 0
    for image, seconds in frames:
        shown += 1 / fps if abs(seconds * fps - 1) < ALIKE else seconds
        wanted = math.floor(shown * fps + 0.5)  # at least half of a last step
        yield from repeat(image, min(wanted - made, repeats))
        made = max(made, wanted)


def clip_frames(data: bytes, name: str, fps: float, repeats: int = MOST_FRAMES) -> Iterator[Image.Image]:
    """The frames of a file at this rate, one after another; of a picture, or of what is shorter than a step, one."""
    frames = frames_of(data, name)
    first, second = next(frames), next(frames, None)
    found = False
    if second is not None:
        for image in at_rate(chain([first, second], frames), fps, repeats):
            found = True
            yield image
    if not found:
        yield first[0]


def read_clip(
    data: bytes, name: str, fps: float, fitted: Callable[[Image.Image], Image.Image] = lambda image: image,
    most: int = MOST_FRAMES, remark: Callable[[str], None] = lambda line: None,
) -> list[Image.Image]:  # fmt: skip
    """The first frames of a file at this rate, `fitted` as they come; what is left out is remarked. Raises InputError
    for more pixels than are held at once."""
    kept: list[Image.Image] = []
    for image in clip_frames(data, name, fps):
        if len(kept) == most:
            remark(f"{name}: its first {most:,} frames alone")
            break
        kept.append(fitted(image))
        refuse_many(len(kept), *kept[0].size, name)
    return kept


def last_frames(data: bytes, name: str, fps: float, count: int) -> list[Image.Image]:
    """The last frames of a file at this rate, at most so many."""
    return [*deque(clip_frames(data, name, fps, count), count)]


def encode_film(frames: list[Image.Image], form: str, fps: float, document: str = "") -> bytes:
    """The bytes of a film ("mp4" with H.264 that begins to play before its end, "webm" with VP9); `document` is kept as
    its comment. Raises UsageError where films cannot be written."""
    if not films_ready():
        raise UsageError(f".{form}: {EXTRA}; or give a .webp or .gif")
    import av
    from av.logging import CRITICAL, set_level

    set_level(CRITICAL)
    out = io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof+use_metadata_tags"} if form == "mp4" else {}
    with av.open(out, "w", format=form, options=options) as film:
        if document:
            film.metadata["comment"] = document
        rate = rational(fps)
        stream: Any = film.add_stream(CODECS[form], rate=rate)
        stream.width, stream.height = (side + side % 2 for side in frames[0].size)
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": QUALITY} if form == "mp4" else {"crf": QUALITY, "b:v": "0"}
        for image in frames:
            film.mux(stream.encode(av.VideoFrame.from_image(_even(image))))
        film.mux(stream.encode())
    return out.getvalue()


def rational(fps: float) -> Any:
    from fractions import Fraction

    return Fraction(fps).limit_denominator(1001)


def _even(image: Image.Image) -> Image.Image:
    """With its last column and row once more where a side is odd, which H.264 and VP9 do not take."""
    wide, high = (side + side % 2 for side in image.size)
    if (wide, high) == image.size:
        return image
    made = Image.new("RGB", (wide, high))
    made.paste(image, (wide - image.width, high - image.height))
    made.paste(image, (0, 0))
    return made


def film_comment(data: bytes) -> str:
    """What a film says of itself. Never raises for a strange file: then nothing."""
    if not films_ready():
        return ""
    import av

    try:
        with av.open(io.BytesIO(data)) as film:
            return next((value for key, value in film.metadata.items() if key.lower() == "comment"), "")
    except Exception:  # an untrusted file may fail in any of FFmpeg's ways
        return ""
