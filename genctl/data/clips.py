"""A folder's clips decoded once, at one size and rate, and kept in memory as uint8; and windows of them.

Clips are animated pictures, films, and folders of numbered frames; a still picture is a clip of one frame, so both can
lie in one folder. Captions and splits are as of pictures (folder.py); of a table's rows `loop` says that after the last
frame comes the first, and then a window may begin anywhere and be longer than the clip.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from genctl.data.entry import Entry, class_of, words
from genctl.data.folder import Listing, read_captions
from genctl.data.pictures import REMARKS, DataConfig, Fit, Pictures, Reader, augment, load, onto
from genctl.errors import InputError
from genctl.media.clips import clip_frames, film_at, films_ready
from genctl.media.folder import Found
from genctl.media.formats import ENDINGS, FILMS
from genctl.media.pictures import fit, read_picture, to_tensor
from genctl.media.stream import read_file
from genctl.rng import Draw
from genctl.sizes import Size

NUMBERED = re.compile(r"(.*?)(\d+)$")  # the stem of a frame's file
LEAST_NUMBERED = 4  # files of consecutive numbers in one folder that are taken for the frames of a clip
MOST_FRAMES = 512  # of a clip that are kept: a minute at 8 a second


@dataclass(frozen=True)
class Clips(Pictures):
    """Clips one after another: `pixels` [all frames, 3, H, W] uint8, of each clip its `lengths` [N] in frames."""

    lengths: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))

    @property
    def starts(self) -> Tensor:
        """The place of each clip's first frame [N]."""
        return self.lengths.cumsum(0) - self.lengths

    @property
    def loops(self) -> Tensor:
        """Whether after the last frame comes the first [N]; not where only a part was kept."""
        return torch.tensor([entry.loops for entry in self.entries], dtype=torch.bool) & (self.lengths < MOST_FRAMES)

    def clip(self, row: int) -> Tensor:
        """All frames [T, 3, H, W] of one."""
        start = int(self.starts[row])
        return self.pixels[start : start + int(self.lengths[row])]

    def windows(self, rows: Tensor, first: Tensor, frames: int) -> Tensor:
        """So many frames of clips `rows` [B] from frame `first` [B] on: uint8 [B, frames, 3, H, W]. Beyond its end a
        clip begins anew."""
        place = (first[:, None] + torch.arange(frames)) % self.lengths[rows, None]
        return self.pixels[onto(self.starts[rows, None] + place, self.pixels.device)]

    def anywhere(self, rows: Tensor, uniform: Tensor, frames: int) -> Tensor:
        """First frames [B] of windows that lie in the clips, or anywhere in those that are loops, by numbers [B] from 0
        to 1."""
        lengths = self.lengths[rows]
        room = torch.where(self.loops[rows], lengths, lengths - frames + 1).clamp(min=1)
        return torch.minimum((uniform * room).long(), room - 1)

    def _rows(self, rows: list[int]) -> Clips:
        starts, counts = self.starts.tolist(), self.lengths.tolist()
        frames = [torch.arange(starts[row], starts[row] + counts[row]) for row in rows]
        chosen = torch.cat(frames) if frames else torch.zeros(0, dtype=torch.long)
        lengths = self.lengths[torch.tensor(rows, dtype=torch.long)]
        kept, fingerprint, config, bad = self._of(rows)
        return Clips(self.pixels[chosen], kept, fingerprint, config, bad, lengths=lengths)

    def still(self) -> Tensor:
        """Which are pictures, of one frame [N]."""
        return self.lengths == 1


class ClipReader(Reader):
    """Reads files as clips of `fps` frames a second, of at least `frames`."""

    endings = (*ENDINGS, *FILMS)
    named = ("clips", "folder of clips")
    unfit = "cannot be read or are too short"

    def __init__(self, frames: int, fps: float) -> None:
        self.frames, self.fps = frames, fps

    @property
    def summed(self) -> dict[str, str]:
        kept = f"of more than {MOST_FRAMES} frames, of which the first are kept"
        return {"profile": REMARKS["profile"], "alone": kept}

    def key(self) -> list[Any]:
        return ["clips", 2, MOST_FRAMES, self.frames, self.fps]

    def said(self, entry: Entry) -> list[Any]:
        return [entry.loops, film_at(entry.file) and films_ready()]

    def grouped(self, listing: Listing) -> Listing:
        """Folders of numbered frames become one entry each, which has the folder as its file."""
        folders: dict[Path, list[Entry]] = {}
        for entry in listing.entries:
            folders.setdefault(entry.file.parent, []).append(entry)
        entries: list[Entry] = []
        used: list[Path] = []
        taken: list[Path] = []
        apart: list[Path] = []
        for folder, inside in folders.items():
            numbered = folder != listing.folder and consecutive([entry.file for entry in inside])
            apart += [folder] if numbered and not alike(inside) else []
            if not numbered or not alike(inside):
                entries += inside
                continue
            known = class_of(listing.folder, folder)
            beside = [file for file in listing.alone if file.with_suffix("") == folder]
            used += beside
            captions = (read_captions(beside[0]) if beside else ()) or inside[0].captions or (words(folder.name),)
            frames = tuple(sorted((entry.file for entry in inside), key=number_of))
            taken.append(folder)
            entries.append(replace(inside[0], file=folder, captions=captions, concept=known, frames=frames))
        found, alone = Found(listing.folder), [file for file in listing.alone if file not in used]
        what = "folders of numbered frames whose captions, splits or styles differ: taken one by one"
        notes = [found.note("folders of numbered frames, a clip each", taken)] if taken else []
        notes = [*listing.notes, *notes, *([found.note(what, apart)] if apart else [])]
        return replace(listing, entries=entries, noun="clip", alone=alone, notes=notes)

    def digest(self, entry: Entry) -> bytes:
        if not entry.frames:
            return super().digest(entry)
        every = [super(ClipReader, self).digest(replace(entry, file=file)) for file in entry.frames]
        return hashlib.sha256(b"".join(every)).digest()

    def decode(self, entry: Entry, size: Size, how: Fit, remarks: list[str]) -> Tensor | str:
        """uint8 [T, 3, H, W]; text where it is too short."""
        images = self._images(entry)
        try:
            frames = [to_tensor(fit(image, size, how)) for image in islice(images, MOST_FRAMES)]
        except InputError as error:
            return str(error).removeprefix(f"{entry.file}: ")
        found, wanted = len(frames), self.frames
        moves = film_at(entry.file) or found > 1
        if moves and found < wanted and not entry.loops:
            return (
                f"{found} frames at {self.fps:g} a second, where {wanted} are trained on at once (a loop may be "
                "shorter: the column `loop` of metadata.jsonl)"
            )
        try:
            more = next(images, None) is not None
        except InputError:  # damaged where it is not used
            more = True
        remarks += [f"{entry.file}: its first {MOST_FRAMES} frames alone"] if more else []
        return torch.stack(frames)

    def _images(self, entry: Entry) -> Iterator[Image.Image]:
        if entry.frames:
            yield from (read_picture(read_file(frame), str(frame)) for frame in entry.frames)
        else:
            yield from clip_frames(read_file(entry.file), str(entry.file), self.fps)

    def packed(self, rows: list[Tensor]) -> dict[str, Tensor]:
        return {"pixels": torch.cat(rows), "lengths": torch.tensor([len(row) for row in rows])}

    def made(self, packed: dict[str, Tensor], *fields: Any) -> Clips:
        return Clips(packed["pixels"], *fields, lengths=packed["lengths"])  # type: ignore[misc]


def load_clips(
    folder: Path, size: Size, frames: int, fps: float, config: DataConfig, report: Callable[[str], None]
) -> Clips:
    """The clips of a folder, as `pictures.load`. Raises InputError where more than half cannot be read or are too
    short."""
    made = load(folder, size, config, report, ClipReader(frames, fps))
    assert isinstance(made, Clips)
    return made


def consecutive(files: list[Path]) -> bool:
    """Whether files are the frames of one clip by their names: one beginning, and numbers without a gap."""
    found = [NUMBERED.match(file.stem) for file in files]
    if len(files) < LEAST_NUMBERED or not all(found):
        return False
    names = {match.group(1) for match in found if match}
    numbers = sorted(int(match.group(2)) for match in found if match)
    return len(names) == 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def alike(entries: list[Entry]) -> bool:
    """Whether nothing is said of any one alone: all have the same caption, split and style."""
    first = entries[0]
    return all(replace(entry, file=first.file) == first for entry in entries)


def number_of(file: Path) -> int:
    """Of a frame's file."""
    found = NUMBERED.match(file.stem)
    return int(found.group(2)) if found else 0


class ClipSource:
    """Batches {"clips": [B, T, 3, H, W] float in [-1, 1]} of windows, or of single frames of clips and pictures:
    `stills` is the share of batches of the latter."""

    def __init__(self, clips: Clips, frames: int, stills: float, device: torch.device) -> None:
        self.clips = replace(clips, pixels=clips.pixels.to(device))
        self.frames, self.mixed = frames, Mixed(clips, stills)
        self.weights = self.mixed.weights

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        rows, frames = self.mixed.rows(rows, self.frames, draw)
        first = self.clips.anywhere(rows, draw.uniform(), frames)
        made = self.clips.windows(rows, first, frames)
        return {"clips": varied(made, self.clips, rows, draw).float() / 127.5 - 1}


def varied(windows: Tensor, clips: Clips, rows: Tensor, draw: Draw) -> Tensor:
    """Windows [B, T, 3, H, W] mirrored and shifted as the data say, all frames of one alike."""
    flat = windows.flatten(1, 2)  # the frames' channels one after another: all are moved as one picture
    return augment(flat, clips.config, draw, clips.flips[rows]).view(windows.shape)


class Mixed:
    """Batches of clips, and now and then one of single frames: rows are drawn by clips' weights, and in a batch of
    stills each row stands for any of the data, by theirs. Where nothing moves, all batches are of stills."""

    def __init__(self, clips: Clips, share: float) -> None:
        weights, moving = clips.weights, ~clips.still()
        self.share, self.moves = (share, True) if moving.any() else (1.0, False)
        self.weights = torch.where(moving, weights, 0.0) if moving.any() else weights
        self.upto = weights.double().cumsum(0)

    def rows(self, rows: Tensor, frames: int, draw: Draw) -> tuple[Tensor, int]:
        """Which clips, and how many frames of each."""
        if float(torch.rand((), generator=draw.step("stills"))) >= self.share:
            return rows, frames
        if self.moves:
            rows = torch.searchsorted(self.upto, draw.uniform().double() * self.upto[-1], right=True)
        return rows.clamp(max=len(self.upto) - 1), 1
