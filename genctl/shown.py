"""What a model makes, for people: Pillow pictures, and clips of them, that know how they were made."""

from __future__ import annotations

import io
import json
import operator
import os
import warnings
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from genctl.errors import UsageError
from genctl.media.names import FORMATS, format_of, hundredths
from genctl.media.pictures import to_image
from genctl.media.sheet import MOST_STRIP, Layout, compose, document_of, square
from genctl.writing import write_whole


class Picture(Image.Image):
    """A Pillow picture that knows how it was made (`document`) and says so in every file that it is saved to."""

    @property
    def document(self) -> dict[str, Any]:
        """How it was made; empty for a picture of unknown origin."""
        return json.loads(self.info.get("genctl", "{}"))

    @classmethod
    def of(cls, image: Image.Image, document: dict[str, Any]) -> Picture:
        """The same picture, with its document."""
        image.__class__ = cls
        assert isinstance(image, Picture)
        image.info["genctl"] = json.dumps(document, sort_keys=True, ensure_ascii=False)
        return image

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """As Pillow's, with how it was made in the file (PNG, WebP, JPEG, GIF; not for `genctl=False`)."""
        from genctl.media.provenance import embed
        from genctl.media.write import OPTIONS

        name = fp if isinstance(fp, (str, os.PathLike)) else getattr(fp, "name", "")
        form = (
            FORMATS.get(f".{format or ''}".lower(), "") if format else FORMATS.get(Path(str(name)).suffix.lower(), "")
        )
        said = self.document if params.pop("genctl", True) and form in OPTIONS else None
        if not form:  # one of Pillow's, which has no place for it
            super().save(fp, format, **params)
            return
        out = io.BytesIO()
        super().save(out, form, **(OPTIONS[form] | embed(said or None, form) | params))
        if isinstance(fp, (str, os.PathLike)):
            write_whole(Path(fp), out.getvalue())
        else:
            fp.write(out.getvalue())


class Pictures(list[Picture]):
    """Pictures in order; a notebook shows them as one sheet."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return Pictures(found) if isinstance(place, slice) else found

    def sheet(self) -> Image.Image:
        """All on one sheet, as near to a square as it gets. Raises UsageError where there is none."""
        if not self:
            raise UsageError("there are no pictures to show")
        return compose([*self], square(len(self)))

    def save(self, path: str | Path, milliseconds: int = 80) -> None:
        """A GIF or WebP that runs through them, or one sheet."""
        from genctl.media.write import MOST_SHOWN, encode_animation, encode_picture

        sheet, form, document = self.sheet(), format_of(Path(path)), self[0].document
        if form in ("gif", "webp"):
            milliseconds = whole("milliseconds", milliseconds, 10, MOST_SHOWN)
            if form == "gif" and hundredths(milliseconds) != milliseconds:
                warn(f"a GIF counts in hundredths of a second: {hundredths(milliseconds)} ms a frame")
            write_whole(Path(path), encode_animation([*self], form, milliseconds, document))
        else:
            documents = [picture.document for picture in self]
            said = document if len(self) == 1 else document_of(documents, square(len(self)))
            write_whole(Path(path), encode_picture(sheet, form, said))

    def _repr_png_(self) -> bytes | None:
        from genctl.media.write import encode_picture

        return encode_picture(self.sheet(), "png") if self else None


class Clip(Pictures):
    """The frames of a clip, in order, so many a second (`fps`)."""

    fps: float = 8.0

    @classmethod
    def of(cls, frames: Tensor, document: dict[str, Any]) -> Clip:
        """Of frames [3, T, H, W] in [-1, 1], and how they were made."""
        made = cls(Picture.of(to_image(frame), document) for frame in frames.transpose(0, 1))
        made.fps = float(document.get("fps", cls.fps))
        return made

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        if isinstance(place, slice):
            found = Clip(found)
            found.fps = self.fps
        return found

    @property
    def document(self) -> dict[str, Any]:
        """How it was made."""
        return self[0].document if self else {}

    def sheet(self) -> Image.Image:
        """A strip of eight frames at most, spread over all."""
        return strip([*self])

    def save(self, path: str | Path, milliseconds: int | None = None) -> None:
        """An animation or a film, by the name's ending."""
        from genctl.media.write import MOST_SHOWN, encode_clip

        fps = self.fps if milliseconds is None else 1000 / whole("milliseconds", milliseconds, 10, MOST_SHOWN)
        write_whole(Path(path), encode_clip([*self], format_of(Path(path), clips=True), fps, self.document))


def strip(frames: list[Any], most: int = MOST_STRIP) -> Image.Image:
    """Frames, spread over all, beside each other."""
    count = min(most, len(frames))
    chosen = [frames[round(place * (len(frames) - 1) / max(1, count - 1))] for place in range(count)]
    return compose(chosen, Layout(count, 1))


def made_of(drawn: Tensor, document: dict[str, Any]) -> Picture | Clip:
    """The picture of [3, H, W], or the clip of [3, T, H, W]."""
    return Clip.of(drawn, document) if drawn.ndim == 4 else Picture.of(to_image(drawn), document)


def image_of(drawn: Tensor) -> Image.Image:
    """What shows [3, H, W], or [3, T, H, W] as a strip of four frames."""
    return to_image(drawn) if drawn.ndim == 3 else strip([to_image(frame) for frame in drawn.transpose(0, 1)], 4)


def warn(line: str) -> None:
    warnings.warn(line, stacklevel=3)


def whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number within its ends. Raises UsageError."""
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or not low <= number <= high:
        raise UsageError(f"{name} {value!r}: wants a whole number from {low} to {high}")
    return number
