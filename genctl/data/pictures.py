"""A folder's pictures decoded once and kept in memory as uint8, and the plain source of picture batches.

Decoding happens before step 1, so a bad file is met at once: it is named, counted and left out; more than half bad is
an error. The decoded set is cached under the sha256 of all file contents and the transform.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from genctl.config import below, check, within
from genctl.data import cache
from genctl.data.archive import unpacked
from genctl.data.captions import variants
from genctl.data.folder import Entry, Listing, scan
from genctl.errors import InputError
from genctl.media.formats import ENDINGS, heic_ready
from genctl.media.pictures import fit, read_picture, to_tensor
from genctl.media.stream import read_file
from genctl.rng import Draw, address
from genctl.sizes import Size
from genctl.text import lenient, shown

Fit = Literal["crop", "pad"]
REMARKS = {  # of single pictures, by a word in them, and what is said of all together
    "profile": "whose colour profile is ignored", "frames": "of several frames, of which the first is used",
}  # fmt: skip
MOST_JITTER = 1024  # pixels; each batch is padded by so many on all sides
MOST_SAID = 20  # pictures that are left out, each in a line of its own
MOST_ATTRIBUTION = 1 << 16  # bytes


@dataclass(frozen=True)
class DataConfig:
    """How pictures become one size and how training varies them."""

    fit: Fit = "crop"  # to the size: crop the middle, or pad with white
    split: str = "split"  # the metadata column that says what is held out
    held_out: Annotated[float, below(1)] = 0.05  # share, by hash of the file name, where the folder says none
    flip: bool = False  # mirror at random: wrong for letters, arrows, clocks
    jitter: Annotated[int, within(0, MOST_JITTER)] = 0  # shift by up to so many pixels each way, filling with white
    views: Annotated[int | None, within(1, 1024)] = None  # versions of a picture whose codes are computed ahead, the
    # first as it is; None: 1, or 4 where pictures are mirrored or shifted

    def __post_init__(self) -> None:
        check(self, "data.")

    @property
    def varies(self) -> bool:
        return self.flip or self.jitter > 0

    def still(self) -> DataConfig:
        """The same without variation: what is held out is looked at as it is."""
        return replace(self, flip=False, jitter=0, views=None)


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures [N, 3, H, W] uint8 with their entries; `fingerprint` identifies content and transform."""

    pixels: Tensor
    entries: list[Entry]
    fingerprint: str
    config: DataConfig
    bad: list[str]
    summary: str = ""
    identity: dict[str, Any] = field(default_factory=dict)  # how many, and of what: by which a run knows them again
    attribution: str = ""

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def weights(self) -> Tensor:
        return torch.tensor([entry.weight for entry in self.entries])

    @property
    def flips(self) -> Tensor:
        """Which may be mirrored [N]."""
        return torch.tensor([entry.flips for entry in self.entries])

    def split(self, held_out: bool) -> Pictures:
        """The training or the held-out part, the latter as it is."""
        part = self._rows([row for row, entry in enumerate(self.entries) if entry.held_out == held_out])
        return replace(part, config=part.config.still()) if held_out else part

    def spread(self, most: int) -> Pictures:
        """At most so many, spread evenly over all."""
        count = min(most, len(self))
        return self._rows([index * len(self) // count for index in range(count)])

    def _rows(self, rows: list[int]) -> Pictures:
        return Pictures(self.pixels[torch.tensor(rows, dtype=torch.long)], *self._of(rows))

    def _of(self, rows: list[int]) -> tuple[list[Entry], str, DataConfig, list[str]]:
        """The fields that follow the pixels, of these rows."""
        chosen = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
        return [self.entries[row] for row in rows], f"{self.fingerprint}-{chosen}", self.config, self.bad


class Reader:
    """How the files of a folder become rows: here one picture a row; data/clips.py has clips."""

    endings: tuple[str, ...] = ENDINGS
    named = ("pictures", "folder of pictures")
    unfit = "cannot be read"

    @property
    def summed(self) -> dict[str, str]:
        """By a word in the remarks on a file, what is said of all files with it together."""
        return REMARKS

    def key(self) -> list[Any]:
        """What rows depend on, beside the files, the size and the fit."""
        return []

    def said(self, entry: Entry) -> list[Any]:
        """What a table says of an entry that rows, or what is drawn of them, depend on."""
        return []

    def grouped(self, listing: Listing) -> Listing:
        """The listing with entries of several files each put together."""
        return listing

    def digest(self, entry: Entry) -> bytes:
        return _sha256(entry.file)

    def decode(self, entry: Entry, size: Size, how: Fit, remarks: list[str]) -> Tensor | str:
        """uint8 [3, H, W], or what is wrong with the file; `remarks` gets what is to be said of it."""
        try:
            image = read_picture(read_file(entry.file), str(entry.file), remarks.append)
            return to_tensor(fit(image, size, how))
        except InputError as error:
            return str(error).removeprefix(f"{entry.file}: ")

    def packed(self, rows: list[Tensor]) -> dict[str, Tensor]:
        return {"pixels": torch.stack(rows)}

    def made(self, packed: dict[str, Tensor], *fields: Any) -> Pictures:
        return Pictures(packed["pixels"], *fields)


def load(
    folder: Path, size: Size | int, config: DataConfig, report: Callable[[str], None] = lambda line: None,
    reader: Reader | None = None,
) -> Pictures:  # fmt: skip
    """Decode the pictures of a folder, or of an archive of one, at one size. Raises InputError when more than half are
    bad."""
    reader = reader or Reader()
    size, inside = Size.of(size), unpacked(folder, reader.endings)
    try:
        listing = reader.grouped(scan(inside, config.split, reader.endings))
    except InputError as error:
        raise InputError(_named(str(error), inside, folder)) from None
    entries = _hold_out(listing, config.held_out)
    hashes = [reader.digest(entry) for entry in entries]
    content = hashlib.sha256(b"".join(hashes)).hexdigest()

    further = [reader.said(entry) for entry in entries]
    key = [3, content, size.plain, config.fit, heic_ready(), *reader.key(), *([further] if any(further) else [])]
    made = cache.cached("pictures", key, lambda: _decode_all(entries, size, config.fit, reader, (inside, folder)))
    why: list[str] = json.loads(bytes(made["why"].tolist()))
    wrong = [(entry, line) for entry, line in zip(entries, why, strict=True) if line]
    bad = [_named(_left_out(entry, line), inside, folder) for entry, line in wrong]
    for line in bad[:MOST_SAID]:
        report(f"left out: {line}")
    if len(bad) > MOST_SAID:
        report(f"left out: {len(bad) - MOST_SAID:,} more that {reader.unfit}")
    notes = [f"{len(bad):,} that {reader.unfit} ({shown(wrong[0][0].file.relative_to(inside))})"] if bad else []
    remarks: list[list[str]] = json.loads(bytes(made["remarks"].tolist()))
    for word, what in reader.summed.items():
        with_it = [entry for entry, lines in zip(entries, remarks, strict=True) if any(word in line for line in lines)]
        notes += [f"{len(with_it):,} {what} ({shown(with_it[0].file.relative_to(inside))})"] if with_it else []
    kept = [entry for entry, line in zip(entries, why, strict=True) if not line]
    if bad:
        content = hashlib.sha256(b"".join(sha for sha, line in zip(hashes, why, strict=True) if not line)).hexdigest()
    said = [[variants(entry), entry.held_out, entry.weight, *reader.said(entry)] for entry in kept]
    captions = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    fingerprint = hashlib.sha256(
        "/".join([content, str(size.plain), config.fit, captions, *map(str, reader.key())]).encode()
    ).hexdigest()[:16]
    summary = replace(listing, entries=kept, notes=listing.notes + notes).summary()
    identity = {"pictures": len(kept), "content": content[:16], "captions": captions[:16]}
    return reader.made(made, kept, fingerprint, config, bad, summary, identity, attribution(inside))


def _decode_all(
    entries: list[Entry], size: Size, how: Fit, reader: Reader, places: tuple[Path, Path]
) -> dict[str, Tensor]:
    """The reader's tensors of what can be read; as bytes of JSON why: what is wrong with each entry or "", remarks:
    what was said of each."""
    remarks: list[list[str]] = [[] for _ in entries]
    with ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads())) as pool:
        rows = list(pool.map(lambda entry, said: reader.decode(entry, size, how, said), entries, remarks))
    why = [row if isinstance(row, str) else "" for row in rows]
    bad = [_left_out(entry, line) for entry, line in zip(entries, why, strict=True) if line]
    if len(bad) > len(rows) / 2:
        many = f"{shown(places[1])}: {len(bad)} of {len(rows)} {reader.named[0]} {reader.unfit}"
        raise InputError(f"{many}, the first: {_named(bad[0], *places)}")
    packed = reader.packed([row for row in rows if isinstance(row, Tensor)])
    return packed | {"why": _as_bytes(why), "remarks": _as_bytes(remarks)}


def _as_bytes(value: Any) -> Tensor:
    """A value's JSON as a tensor of bytes."""
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _named(line: str, inside: Path, folder: Path) -> str:
    """A line with the archive's name instead of that of the folder in the cache."""
    return line if inside == folder else line.replace(shown(inside), shown(folder))


def _left_out(entry: Entry, reason: str) -> str:
    return f"{shown(entry.file)}: {reason}"


def attribution(folder: Path) -> str:
    """What a folder's ATTRIBUTION.md says, its first 64 KiB, in whatever encoding; or nothing."""
    try:
        with (folder / "ATTRIBUTION.md").open("rb") as file:
            return lenient(file.read(MOST_ATTRIBUTION))
    except OSError:
        return ""


def _hold_out(listing: Listing, share: float) -> list[Entry]:
    """The folder's own split, or one by hash of the file name; a handful of pictures is too few to hold any out."""
    entries = listing.entries
    if any(entry.held_out for entry in entries) or len(entries) < 40:
        return entries
    names = [shown(entry.file.relative_to(listing.folder).as_posix()) for entry in entries]
    return [
        replace(entry, held_out=address("held out", name) < share * 2**63)
        for name, entry in zip(names, entries, strict=True)
    ]


def _sha256(path: Path) -> bytes:
    """Of a file's bytes, or of none where it cannot be read (decoding will name it)."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return hashlib.sha256().digest()


def onto(tensor: Tensor, device: torch.device) -> Tensor:
    """A small CPU tensor on the device; from pinned memory on a GPU, so that the host does not wait for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class PictureSource:
    """Batches {"pictures": [B, 3, H, W] float in [-1, 1]} from uint8 kept on the device."""

    def __init__(self, pictures: Pictures, device: torch.device) -> None:
        self.pixels = pictures.pixels.to(device)
        self.weights, self.flips = pictures.weights, pictures.flips
        self.config = pictures.config

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        pixels = self.pixels[onto(rows, self.pixels.device)]
        return {"pictures": augment(pixels, self.config, draw, self.flips[rows]).float() / 127.5 - 1}


def augment(pixels: Tensor, config: DataConfig, draw: Draw, flips: Tensor) -> Tensor:
    """Mirror and shift uint8 pictures [B, 3, H, W] at random, each by its own draw; `flips` [B]: which may be
    mirrored."""
    if config.flip:
        mirrored = (draw.uniform() < 0.5) & flips
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
