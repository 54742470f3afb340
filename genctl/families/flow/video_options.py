"""What a clip can be asked for beside what a flow's picture can. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from genctl.families.flow.options import FlowOptions
from genctl.options import option

CLIP = "Clips"  # a panel of --help
MOST_FRAMES = 1024


@dataclass(frozen=True)
class VideoOptions(FlowOptions):
    """None means: as the model file says."""

    frames: int | None = option(None, "Of a clip (default: as trained).", panel=CLIP, low=1, high=MOST_FRAMES)
    fps: float | None = option(
        None, "Frames shown a second (default: as trained; others are faster or slower).", panel=CLIP, low=0.1, high=100
    )
    loop: bool = option(
        False, "There and back, so that the last frame leads to the first (an even number).", panel=CLIP
    )

    def settled(self, document: Mapping[str, Any], conditional: bool = True) -> VideoOptions:
        said, made = document["config"], super().settled(document, conditional)
        assert isinstance(made, VideoOptions)
        frames = self.frames or said.get("frames")
        if self.loop and frames and frames > 1:
            frames -= frames % 2  # an odd one would be skipped on the way back
        return replace(made, frames=frames, fps=self.fps or said.get("fps"))
