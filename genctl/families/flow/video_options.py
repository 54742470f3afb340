"""What a clip can be asked for beside what a flow's picture can. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from genctl.errors import UsageError
from genctl.families.flow.options import FlowOptions, scalars_of
from genctl.options import option

CLIP = "Clips"  # a panel of --help
MOST_FRAMES = 1024
MOST_GIVEN = 2  # code frames that a clip goes on from


@dataclass(frozen=True)
class VideoOptions(FlowOptions):
    """None means: as the model file says."""

    frames: int | None = option(
        None, "Number of frames of a clip (default: as trained).", panel=CLIP, low=1, high=MOST_FRAMES
    )
    fps: float | None = option(
        None, "Frames a second (default: as trained; others play faster or slower).", panel=CLIP, low=0.1, high=100
    )
    loop: bool = option(
        False, "A seamless loop: frames that lead from the clip's end to its beginning are drawn as well.", panel=CLIP
    )  # fmt: skip

    @classmethod
    def refused(cls, document: Mapping[str, Any]) -> dict[str, str]:
        alone = {"loop": "a student was not taught to go on from given frames"} if scalars_of(document) else {}
        return super().refused(document) | alone

    def from_picture(self, conditional: bool) -> VideoOptions:
        """Unguided, unless something is said of guidance: given frames say most of what follows, and guidance leads
        away from them (docs/measured.md)."""
        shaped = self.steered or self.interval or self.rescale or self.guidance != "cfg"
        return self if not conditional or shaped or self.cfg is not None else replace(self, cfg=1.0)

    def way_back(self, conditional: bool) -> VideoOptions:
        """Of what leads from a loop's end to its beginning, by the settled options of the clip: unguided as well."""
        plain = replace(self, loop=False)
        if not conditional or self.steered:
            return plain
        return replace(plain, cfg=1.0, interval=None, rescale=0.0, guidance="cfg")

    @property
    def steered(self) -> bool:
        """Whether more is said than what to draw."""
        return bool(self.negative or self.also or self.guide)

    def settled(self, document: Mapping[str, Any], conditional: bool = True) -> VideoOptions:
        said, made = document["config"], super().settled(document, conditional)
        assert isinstance(made, VideoOptions)
        frames = self.frames or said.get("frames")
        if self.loop:
            way = Closing.of(said["frames"], said["period"])
            frames = self.frames or way.new + said["frames"]
            way.drawn(frames)
        return replace(made, frames=frames, fps=self.fps or said.get("fps"))


@dataclass(frozen=True)
class Closing:
    """The frames of a loop: of a clip's end that are given, of the way to its beginning that are drawn, and of that
    beginning; together as many as the model was trained on."""

    end: int
    new: int
    beginning: int

    @classmethod
    def of(cls, frames: int, period: int) -> Closing:
        """For a model trained on so many frames, `period` of them a code frame. Raises UsageError for too few."""
        count = 1 + (frames - 1) // period
        given = min(MOST_GIVEN, count - 2)
        if given < 1:
            raise UsageError(f"--loop wants a model of three code frames or more; this one has {count}")
        return cls(1 + period * (given - 1), period * (count - given - 1), period)

    def drawn(self, frames: int, begun: int = 1) -> int:
        """How many of a loop's frames are drawn before the way back, where `begun` are needed for what is given. Raises
        UsageError where they are too few."""
        least = max(self.end, self.beginning, begun)
        if frames < self.new + least:
            raise UsageError(
                f"--loop --frames {frames}: {self.new + least} or more, of which {self.new} lead from end to beginning"
            )
        return frames - self.new
