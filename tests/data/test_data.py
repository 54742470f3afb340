"""Folders of any usual layout are understood; bad files are named and left out; caches cannot be stale."""

import json
from pathlib import Path

import pytest
import torch
from helpers import draw_shape, shape_folder

from genctl.data.captions import variants
from genctl.data.folder import Entry, scan
from genctl.data.pictures import DataConfig, PictureSource, augment, load
from genctl.errors import InputError, UsageError
from genctl.rng import Draw


def save(path: Path, colour: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_shape("circle", colour, "plain").save(path)


def test_flat_folder(tmp_path: Path) -> None:
    for name in ("b.png", "a.webp", ".hidden.png", "__MACOSX/c.png"):
        save(tmp_path / name)
    listing = scan(tmp_path)
    assert [entry.file.name for entry in listing.entries] == ["a.webp", "b.png"]
    assert listing.summary() == "2 pictures, no captions"


def test_class_folders_with_a_split(tmp_path: Path) -> None:
    save(tmp_path / "train/red_fox/a.png")
    save(tmp_path / "test/red_fox/b.png")
    save(tmp_path / "train/dog/c.png")
    listing = scan(tmp_path)
    assert {(e.file.name, e.captions, e.held_out) for e in listing.entries} == {
        ("a.png", ("red fox",), False),
        ("b.png", ("red fox",), True),
        ("c.png", ("dog",), False),
    }
    assert "2 classes from folder names" in listing.summary()


def test_sidecar_captions(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    (tmp_path / "a.txt").write_text("a red ball\nsomething round\n")
    listing = scan(tmp_path)
    assert listing.entries[0].captions == ("a red ball", "something round")
    assert listing.summary() == "2 pictures, captions from .txt files, 1 without a caption"


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_imagefolder(kind: str, tmp_path: Path) -> None:
    save(tmp_path / "x/a.png")
    row = {"file_name": "x/a.png", "text": "ein Ball, rot", "tags": "round, red", "style": "3d", "split": "test"}
    if kind == "jsonl":
        lines = json.dumps(row) + "\n" + json.dumps(row | {"file_name": "gone.png"}) + "\n"
    else:
        lines = ",".join(row) + "\n" + ",".join(f'"{value}"' for value in row.values()) + "\ngone.png,,,,\n"
    (tmp_path / f"metadata.{kind}").write_text(lines)
    listing = scan(tmp_path)
    (entry,) = listing.entries
    assert (entry.captions, entry.tags, entry.style, entry.held_out) == (
        ("ein Ball, rot",),
        ("round", "red"),
        "3d",
        True,
    )
    assert "1 named files missing (gone.png)" in listing.summary()


@pytest.mark.parametrize("row", ['{"file_name": "../secret.png"}', '{"text": "no file"}', "not json", "[1]"])
def test_wrong_metadata_is_named(row: str, tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text(row + "\n")
    with pytest.raises(InputError, match=r"metadata\.jsonl"):
        scan(tmp_path)


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(InputError, match=r"no pictures \(found notes\.md\)"):
        scan(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        scan(tmp_path / "gone")
    with pytest.raises(InputError, match="a file"):
        scan(tmp_path / "notes.md")


def test_captions_have_shares_that_sum_to_one() -> None:
    entry = Entry(Path("a"), ("cat",), ("pet", "kitten"), style="3d")
    shares = dict(variants(entry))
    assert abs(sum(shares.values()) - 1) < 1e-9
    assert abs(shares["cat"] - 0.8 * 0.4) < 1e-9
    assert abs(shares["cat, 3d style"] - 0.8 * 0.6) < 1e-9
    assert abs(shares["pet"] - 0.1 * 0.4) < 1e-9
    assert variants(Entry(Path("a"))) == [("", 1.0)]


def test_bad_files_are_named_and_left_out(tmp_path: Path) -> None:
    for index in range(4):
        save(tmp_path / f"{index}.png")
    (tmp_path / "4.png").write_text("hello")
    said: list[str] = []
    pictures = load(tmp_path, 16, DataConfig(), said.append)
    assert len(pictures) == 4
    assert pictures.pixels.shape == (4, 3, 16, 16)
    assert "4.png: not an image" in said[0]
    assert pictures.summary == "4 pictures, no captions, 1 that cannot be read (4.png)"
    again: list[str] = []
    later = load(tmp_path, 16, DataConfig(), again.append)  # from the cache
    assert (len(later), later.summary, again) == (4, pictures.summary, said)
    (tmp_path / "4.png").unlink()
    assert load(tmp_path, 16, DataConfig()).fingerprint == pictures.fingerprint  # what is left out does not count


def test_more_than_half_bad_is_an_error(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    for index in range(2):
        (tmp_path / f"{index}.png").write_text("hello")
    with pytest.raises(InputError, match="2 of 3 pictures cannot be read"):
        load(tmp_path, 16, DataConfig())


def test_a_changed_picture_or_transform_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    save(tmp_path / "a.png", "red")
    first = load(tmp_path, 16, DataConfig())
    save(tmp_path / "a.png", "blue")
    second = load(tmp_path, 16, DataConfig())
    assert first.fingerprint != second.fingerprint
    assert not torch.equal(first.pixels, second.pixels)
    assert load(tmp_path, 8, DataConfig()).pixels.shape[-1] == 8
    assert load(tmp_path, 16, DataConfig(fit="pad")).fingerprint != second.fingerprint


def test_held_out_by_hash_where_the_folder_says_nothing(tmp_path: Path) -> None:
    for index in range(60):
        save(tmp_path / f"{index}.png")
    pictures = load(tmp_path, 8, DataConfig(held_out=0.2))
    assert 3 <= len(pictures.split(True)) <= 24
    assert len(pictures.split(True)) + len(pictures.split(False)) == 60
    assert load(tmp_path, 8, DataConfig(held_out=0.2)).split(True).entries == pictures.split(True).entries
    assert pictures.summary == f"60 pictures, no captions, {len(pictures.split(True))} held out"
    few = pictures.spread(7)
    assert (len(few), few.pixels.shape[0], few.entries[0]) == (7, 7, pictures.entries[0])
    assert len({entry.file for entry in few.entries}) == 7
    assert len(pictures.spread(1000)) == 60


@pytest.mark.parametrize("values", [{"held_out": 1.5}, {"held_out": -0.1}, {"held_out": 1.0}, {"jitter": -1}])
def test_data_settings_that_mean_nothing_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"data.{next(iter(values))} is"):
        DataConfig(**values)  # type: ignore[arg-type]


def test_augmentation_against_the_slow_way() -> None:
    pixels = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    moved = augment(pixels, DataConfig(jitter=2), Draw(0, 6), torch.ones(6, dtype=torch.bool))
    shifts = Draw(0, 6).uniform(2) * 5
    for row in range(6):
        padded = torch.full((3, 12, 12), 255, dtype=torch.uint8)
        padded[:, 2:10, 2:10] = pixels[row]
        y, x = int(shifts[row, 0]), int(shifts[row, 1])
        assert torch.equal(moved[row], padded[:, y : y + 8, x : x + 8])
    mirrored = augment(pixels, DataConfig(flip=True), Draw(1, 6), torch.ones(6, dtype=torch.bool))
    assert all(torch.equal(m, p) or torch.equal(m, p.flip(2)) for m, p in zip(mirrored, pixels, strict=True))
    assert not torch.equal(mirrored, pixels)
    some = torch.tensor([True, False] * 3)
    kept = augment(pixels, DataConfig(flip=True), Draw(1, 6), some)
    assert torch.equal(kept, torch.where(some[:, None, None, None], mirrored, pixels))


def test_source_gives_floats_of_the_right_range(tmp_path: Path) -> None:
    pictures = load(shape_folder(tmp_path, 1), 32, DataConfig())
    batch = PictureSource(pictures, torch.device("cpu")).batch(torch.tensor([0, 3]), Draw(0, 2))
    assert batch["pictures"].shape == (2, 3, 32, 32)
    assert batch["pictures"].max() == 1
    assert batch["pictures"].min() >= -1


def test_metadata_within_split_folders(tmp_path: Path) -> None:
    """Hugging Face's usual layout: train/metadata.jsonl beside test/metadata.jsonl."""
    for part in ("train", "test"):
        save(tmp_path / part / "a.png")
        (tmp_path / part / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "ball"}\n')
    entries = scan(tmp_path).entries
    assert [(e.captions, e.held_out) for e in entries] == [(("ball",), True), (("ball",), False)]


@pytest.mark.parametrize("weight", ["abc", -1, "nan", [1]])
def test_weights_that_are_none_are_named(weight: object, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "weight": weight}) + "\n")
    with pytest.raises(InputError, match="line 1: weight"):
        scan(tmp_path)


@pytest.mark.parametrize(("value", "flips"), [(False, False), (True, True), ("", True), ("False", False), (0, False)])
def test_a_row_says_whether_it_may_be_mirrored(value: object, flips: bool, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "flip": value}) + "\n")
    assert scan(tmp_path).entries[0].flips is flips


def test_a_weight_of_zero_stays_zero(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "weight": 0}\n')
    assert scan(tmp_path).entries[0].weight == 0


def test_another_split_has_another_fingerprint(tmp_path: Path) -> None:
    """Codes are cached under it: with the same one, a wider held-out share would get the old training part's codes."""
    for index in range(60):
        save(tmp_path / f"{index}.png")
    narrow, wide = (load(tmp_path, 8, DataConfig(held_out=share)) for share in (0.05, 0.3))
    assert narrow.fingerprint != wide.fingerprint
    assert narrow.split(False).fingerprint != wide.split(False).fingerprint
