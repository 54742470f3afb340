"""A folder's pictures decoded once and kept in memory as uint8, and the plain source of picture batches.

Decoding happens before step 1, so a bad file is met at once: it is named, counted and left out; more than half bad is
an error. The decoded set is cached under the sha256 of all file contents and the transform.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor

from genctl.config import below, check, within
from genctl.data import cache
from genctl.data.archive import unpacked
from genctl.data.captions import variants
from genctl.data.folder import Entry, Listing, scan
from genctl.draws import Draw, address
from genctl.errors import InputError
from genctl.media.pictures import fit, read_picture, to_tensor
from genctl.sizes import Size

Fit = Literal["crop", "pad"]
MOST_JITTER = 1024  # pixels; each batch is padded by so many on all sides


@dataclass(frozen=True)
class DataConfig:
    """How pictures become one size and how training varies them."""

    fit: Fit = "crop"  # to the size: crop the middle, or pad with white
    split: str = "split"  # the metadata column that says what is held out
    held_out: Annotated[float, below(1)] = 0.05  # share, by hash of the file name, where the folder says none
    flip: bool = False  # mirror at random: wrong for letters, arrows, clocks
    jitter: Annotated[int, within(0, MOST_JITTER)] = 0  # shift by up to so many pixels each way, filling with white

    def __post_init__(self) -> None:
        check(self, "data.")


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures [N, 3, H, W] uint8 with their entries; `fingerprint` identifies content and transform."""

    pixels: Tensor
    entries: list[Entry]
    fingerprint: str
    config: DataConfig
    bad: list[str]
    summary: str = ""

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def weights(self) -> Tensor:
        return torch.tensor([entry.weight for entry in self.entries])

    def split(self, held_out: bool) -> Pictures:
        """The training or the held-out part."""
        return self._rows([row for row, entry in enumerate(self.entries) if entry.held_out == held_out])

    def spread(self, most: int) -> Pictures:
        """At most so many, spread evenly over all."""
        count = min(most, len(self))
        return self._rows([index * len(self) // count for index in range(count)])

    def _rows(self, rows: list[int]) -> Pictures:
        entries = [self.entries[row] for row in rows]
        chosen = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
        return Pictures(
            self.pixels[torch.tensor(rows, dtype=torch.long)],
            entries,
            f"{self.fingerprint}-{chosen}",
            self.config,
            self.bad,
        )


def load(
    folder: Path, size: Size | int, config: DataConfig, report: Callable[[str], None] = lambda line: None
) -> Pictures:
    """Decode a folder's pictures at one size. Raises InputError when more than half are bad."""
    size = Size.of(size)
    listing = scan(unpacked(folder), config.split)
    entries = _hold_out(listing, config.held_out)
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(hashlib.sha256(_bytes(entry.file)).digest())
    content = digest.hexdigest()
    key = [1, content, size.plain, config.fit]
    bad: list[str] = []

    def make() -> dict[str, Tensor]:
        with ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads())) as pool:
            rows = list(pool.map(lambda entry: _decode(entry.file, size, config.fit), entries))
        good = torch.tensor([not isinstance(row, str) for row in rows])
        bad.extend(row for row in rows if isinstance(row, str))
        if len(bad) > len(rows) / 2:
            raise InputError(f"{folder}: {len(bad)} of {len(rows)} pictures cannot be read, the first: {bad[0]}")
        return {"pixels": torch.stack([row for row in rows if isinstance(row, Tensor)]), "good": good}

    made = cache.cached("pictures", key, make)
    good = made["good"].tolist()
    for line in bad:
        report(f"left out: {line}")
    if not all(good) and not bad:
        report(f"left out: {good.count(False)} pictures that cannot be read")
    kept = [entry for entry, fine in zip(entries, good, strict=True) if fine]
    said = [[variants(entry), entry.held_out, entry.weight] for entry in kept]
    captions = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    fingerprint = hashlib.sha256(f"{content}/{size.plain}/{config.fit}/{captions}".encode()).hexdigest()[:16]
    return Pictures(made["pixels"], kept, fingerprint, config, bad, replace(listing, entries=kept).summary())


def _hold_out(listing: Listing, share: float) -> list[Entry]:
    """The folder's own split, or one by hash of the file name; a handful of pictures is too few to hold any out."""
    entries = listing.entries
    if any(entry.held_out for entry in entries) or len(entries) < 40:
        return entries
    names = [entry.file.relative_to(listing.folder).as_posix() for entry in entries]
    return [
        replace(entry, held_out=address("held out", name) < share * 2**63)
        for name, entry in zip(names, entries, strict=True)
    ]


def _bytes(path: Path) -> bytes:
    """A file's bytes, or none where it cannot be read (decoding will name it)."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _decode(path: Path, size: Size, how: Fit) -> Tensor | str:
    """uint8 [3, H, W], or the line that says what is wrong with the file."""
    try:
        return to_tensor(fit(read_picture(path.read_bytes(), str(path)), size, how))
    except (InputError, OSError) as error:
        return str(error)


def onto(tensor: Tensor, device: torch.device) -> Tensor:
    """A small CPU tensor on the device; from pinned memory on a GPU, so that the host does not wait for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class PictureSource:
    """Batches {"pictures": [B, 3, H, W] float in [-1, 1]} from uint8 kept on the device."""

    def __init__(self, pictures: Pictures, device: torch.device) -> None:
        self.pixels = pictures.pixels.to(device)
        self.weights = pictures.weights
        self.config = pictures.config

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        pixels = self.pixels[onto(rows, self.pixels.device)]
        return {"pictures": augment(pixels, self.config, draw).float() / 127.5 - 1}


def augment(pixels: Tensor, config: DataConfig, draw: Draw) -> Tensor:
    """Mirror and shift uint8 pictures [B, 3, H, W] at random, each by its own draw."""
    if config.flip:
        mirrored = draw.uniform() < 0.5
        pixels = torch.where(onto(mirrored, pixels.device)[:, None, None, None], pixels.flip(3), pixels)
    if config.jitter:
        most = config.jitter
        shifts = onto((draw.uniform(2) * (2 * most + 1)).long(), pixels.device)  # [B, 2]
        rows, columns = (torch.arange(side, device=pixels.device) for side in pixels.shape[-2:])
        y, x = rows + shifts[:, :1], columns + shifts[:, 1:]  # [B, H], [B, W]
        padded = torch.nn.functional.pad(pixels, (most,) * 4, value=255)
        item = torch.arange(len(pixels), device=pixels.device)[:, None, None]
        pixels = padded.permute(0, 2, 3, 1)[item, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)
    return pixels
