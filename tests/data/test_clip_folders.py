"""Folders of clips: windows, loops, numbered frames, stills among them, and what is too short."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import clip_folder, draw_shape, moving
from torch import Tensor

from genctl.data import clips as clip_data
from genctl.data.clips import Clips, ClipSource, consecutive, load_clips
from genctl.data.pictures import DataConfig, load
from genctl.errors import InputError
from genctl.media.clips import encode_film
from genctl.media.pictures import to_tensor
from genctl.rng import Draw
from genctl.sizes import Size
from genctl.training.keep import Keeper


def loaded(folder: Path, frames: int = 5, lines: list[str] | None = None, **config: object) -> Clips:
    said = [] if lines is None else lines
    return load_clips(folder, Size(32, 32), frames, 8.0, DataConfig(**config), said.append)  # type: ignore[arg-type]


def save(frames: list, path: Path) -> None:
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=125, loop=0, lossless=True)


def test_windows_of_loops_go_round(tmp_path: Path) -> None:
    clips = loaded(clip_folder(tmp_path), frames=12)  # longer than the loops of 8
    assert (len(clips), clips.lengths.tolist(), clips.loops.tolist()) == (8, [8] * 8, [True] * 8)
    assert "8 clips" in clips.summary
    drawn = torch.stack([to_tensor(frame) for frame in moving("circle", "blue", 8)])
    row = next(row for row, entry in enumerate(clips.entries) if entry.captions[0] == "blue circle")
    assert torch.equal(clips.clip(row), drawn)
    window = clips.windows(torch.tensor([row]), torch.tensor([6]), 12)[0]
    assert torch.equal(window, drawn[[6, 7, *range(8), 0, 1]])
    first = clips.anywhere(torch.full((200,), row), torch.linspace(0, 0.999, 200), 12)
    assert sorted(set(first.tolist())) == [*range(8)]


def test_splits_keep_their_frames(tmp_path: Path) -> None:
    clips = loaded(clip_folder(tmp_path, stills=3))
    held, training = clips.split(True), clips.split(False)
    assert len(held) + len(training) == 11
    assert len(held.pixels) == int(held.lengths.sum())
    for part in (held, training):
        for row, entry in enumerate(part.entries):
            whole = next(place for place, other in enumerate(clips.entries) if other.file == entry.file)
            assert torch.equal(part.clip(row), clips.clip(whole))
    assert held.fingerprint != training.fingerprint


def test_what_is_no_loop_is_not_gone_round(tmp_path: Path) -> None:
    save(moving("square", "red", 9), tmp_path / "a.webp")
    clips = loaded(tmp_path)
    first = clips.anywhere(torch.zeros(300, dtype=torch.long), torch.linspace(0, 1, 300), 5)
    assert sorted(set(first.tolist())) == [0, 1, 2, 3, 4]


def test_too_short_is_left_out_by_name_or_an_error(tmp_path: Path) -> None:
    for name, frames in (("a", 9), ("b", 9), ("short", 3)):
        save(moving("square", "red", frames), tmp_path / f"{name}.webp")
    lines: list[str] = []
    before = loaded(tmp_path, lines=lines)
    assert len(before) == 2
    assert any("short.webp: 3 frames at 8 a second, where 5 are trained on" in line for line in lines)
    table = [{"file_name": f"{name}.webp", "loop": True} for name in ("a", "b", "short")]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    assert loaded(tmp_path).fingerprint != before.fingerprint
    assert len(loaded(tmp_path)) == 3  # as the line says, and not what was kept of the reading before
    (tmp_path / "metadata.jsonl").unlink()
    with pytest.raises(
        InputError, match=r"3 of 3 clips cannot be read or are too short, the first: .*9 frames at 8 a second"
    ):
        loaded(tmp_path, frames=17)


def test_a_folder_of_numbered_frames_is_a_clip(tmp_path: Path) -> None:
    for folder, count in (("red square-01", 6), ("dogs/b", 7)):
        (tmp_path / folder).mkdir(parents=True)
        for place, frame in enumerate(moving("square", "red", count)):
            frame.save(tmp_path / folder / f"frame-{place + 8}.png")  # of one digit, then of two
    (tmp_path / "dogs/b.txt").write_text("a dog runs")
    (tmp_path / "loose").mkdir()
    for name in ("x.png", "y.png"):
        draw_shape("circle", "red", "plain").save(tmp_path / "loose" / name)
    clips = loaded(tmp_path)
    found = {entry.file.name: (int(length), entry.captions) for entry, length in zip(clips.entries, clips.lengths)}  # noqa: B905
    assert found["red square-01"] == (6, ("red square 01",))
    assert found["b"] == (7, ("a dog runs",))
    assert found["x.png"] == (1, ("loose",))
    assert "without a picture" not in clips.summary  # dogs/b.txt is the clip's
    assert "2 folders of numbered frames, a clip each" in clips.summary
    row = next(row for row, entry in enumerate(clips.entries) if entry.file.name == "b")
    wanted = torch.stack([to_tensor(frame) for frame in moving("square", "red", 7)])
    assert torch.equal(clips.clip(row), wanted)
    assert not consecutive([Path("a1.png"), Path("a2.png"), Path("a4.png"), Path("a5.png")])
    assert not consecutive([Path("a1.png"), Path("b2.png"), Path("a3.png"), Path("a4.png")])


def numbered(folder: Path, places: range, name: str = "{}.png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for place, frame in zip(places, moving("square", "red", len(places)), strict=True):
        frame.save(folder / name.format(place))


def test_numbered_pictures_of_which_something_is_said_are_no_clip(tmp_path: Path) -> None:
    numbered(tmp_path / "set", range(5))
    for place in range(5):
        (tmp_path / "set" / f"{place}.txt").write_text(f"picture {place}")
    clips = loaded(tmp_path)
    assert (len(clips), clips.lengths.tolist()) == (5, [1] * 5)
    assert clips.entries[3].captions == ("picture 3",)
    assert "1 folder of numbered frames whose captions, splits or styles differ: taken one by one" in clips.summary
    for place in range(5):
        (tmp_path / "set" / f"{place}.txt").write_text("a square")  # of all the same
    clips = loaded(tmp_path)
    assert (clips.lengths.tolist(), clips.entries[0].captions) == ([5], ("a square",))
    assert "one by one" not in clips.summary


def test_a_clips_frames_are_those_that_are_listed(tmp_path: Path) -> None:
    numbered(tmp_path / "walk", range(8))
    (tmp_path / "walk.txt").write_text("from the text")
    rows = [{"file_name": f"walk/{place}.png", "text": "from the table"} for place in range(5)]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clips = loaded(tmp_path)
    assert (clips.lengths.tolist(), clips.entries[0].captions) == ([5], ("from the table",))
    assert "3 pictures not named in metadata.jsonl" in clips.summary
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "walk.txt").rename(tmp_path / "walk.Caption")
    (tmp_path / "walk" / "4x").mkdir()  # between the fourth and the fifth by name
    draw_shape("circle", "red", "plain").save(tmp_path / "walk/4x/q.png")
    clips = loaded(tmp_path)
    assert clips.lengths.tolist() == [8, 1]
    assert clips.entries[0].captions == ("from the text",)


def test_films_in_an_archive_and_long_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for name, count in (("long", 14), ("short", 6)):
        (films / f"{name}.mp4").write_bytes(encode_film(moving("square", "red", count), "mp4", 8))
    draw_shape("circle", "red", "plain").save(films / "still.png")
    shutil.make_archive(str(tmp_path / "films"), "zip", films)
    monkeypatch.setattr(clip_data, "MOST_FRAMES", 10)
    clips = loaded(tmp_path / "films.zip")
    assert clips.lengths.tolist() == [10, 6, 1]
    assert "1 of more than 10 frames, of which the first are kept (long.mp4)" in clips.summary
    pictures = load(tmp_path / "films.zip", 32, DataConfig())
    assert len(pictures) == 1
    assert "2 .mp4 not read" in pictures.summary


def test_damage_beyond_what_is_kept_is_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_data, "MOST_FRAMES", 6)
    for name in ("a", "b", "c"):
        numbered(tmp_path / name, range(8))
    (tmp_path / "a/6.png").write_bytes(b"no picture")
    (tmp_path / "b/3.png").write_bytes(b"no picture")
    lines: list[str] = []
    clips = loaded(tmp_path, lines=lines)
    assert [entry.file.name for entry in clips.entries] == ["a", "c"]
    assert any("b/3.png: not an image" in line for line in lines)


def test_a_film_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(encode_film(moving("square", "red", 6), "mp4", 8))
    (tmp_path / "b.mp4").write_bytes(encode_film(moving("square", "red", 6), "mp4", 8))
    assert loaded(tmp_path).lengths.tolist() == [6, 6]


def test_batches_of_clips_and_of_stills(tmp_path: Path) -> None:
    clips = loaded(clip_folder(tmp_path, stills=6)).split(False)
    source = ClipSource(clips, 5, 0.5, torch.device("cpu"))
    assert bool((source.weights[clips.still()] == 0).all())
    shapes, seen = set(), set()
    for seed in range(40):
        rows = torch.multinomial(source.weights, 16, True, generator=torch.Generator().manual_seed(seed))
        made = source.batch(rows, Draw(seed, 16))["clips"]
        shapes.add(tuple(made.shape))
        parts = [source.batch(rows[a:b], Draw(seed, 16).part(a, b))["clips"] for a, b in ((0, 7), (7, 16))]
        assert torch.equal(torch.cat(parts), made)  # whatever way a batch is split
        if made.shape[1] == 1:
            seen |= {bytes(((frame + 1) * 127.5).round().byte().flatten().tolist()) for frame in made[:, 0]}
    assert shapes == {(16, 5, 3, 32, 32), (16, 1, 3, 32, 32)}
    still = clips.clip(int(clips.still().nonzero()[0]))[0]
    assert bytes(still.flatten().tolist()) in seen
    always, rows = ClipSource(clips, 5, 1.0, torch.device("cpu")), set[int]()
    for seed in range(20):
        made = always.mixed.rows(torch.zeros(16, dtype=torch.long), 5, Draw(seed, 16))
        assert made[1] == 1
        rows |= {*made[0].tolist()}
    assert rows == {*range(len(clips))}  # stills too
    only = ClipSource(loaded(clip_folder(tmp_path / "b", stills=6))._rows([8, 9]), 5, 0.0, torch.device("cpu"))
    assert only.batch(torch.tensor([0, 1]), Draw(0, 2))["clips"].shape == (2, 1, 3, 32, 32)


def test_held_out_figures_of_clips_are_of_clips(tmp_path: Path) -> None:
    clips = loaded(clip_folder(tmp_path, stills=60)).split(True)
    source = ClipSource(clips, 5, 0.0, torch.device("cpu"))
    asked: list[Tensor] = []
    source.batch = lambda rows, draw: asked.append(rows) or {}  # type: ignore[method-assign, func-returns-value]
    keeper = Keeper.__new__(Keeper)
    keeper.held_out, keeper.model = source, SimpleNamespace(device=torch.device("cpu"), validation_loss=lambda *_: {})
    keeper.validate()
    assert torch.equal(torch.cat(asked), (~clips.still()).nonzero()[:, 0])
    source.weights = torch.zeros(len(clips))
    assert keeper.validate() == {}


def test_a_mirrored_clip_is_mirrored_throughout(tmp_path: Path) -> None:
    clips = loaded(clip_folder(tmp_path), flip=True).split(False)
    source = ClipSource(clips, 8, 0.0, torch.device("cpu"))
    rows = torch.zeros(16, dtype=torch.long)
    made = ((source.batch(rows, Draw(1, 16))["clips"] + 1) * 127.5).round().byte()
    loop = clips.clip(0)
    rounds = [loop.roll(place, 0) for place in range(8)]
    kinds = set()
    for one in made:
        plain, turned = (any(torch.equal(one, way) for way in ways) for ways in (rounds, [r.flip(-1) for r in rounds]))
        kinds.add("plain" if plain else "mirrored" if turned else "wrong")
    assert kinds <= {"plain", "mirrored"}
    assert "mirrored" in kinds
