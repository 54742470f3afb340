"""Nothing is left out of a data folder unsaid; text beside pictures is read strictly, tables by their types."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers import draw_shape

from genctl.data.folder import scan
from genctl.data.pictures import DataConfig, load
from genctl.errors import InputError


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_shape("circle", "red", "plain").save(path)


def table(folder: Path, *rows: Any, name: str = "a.png") -> Path:
    save(folder / name)
    lines = (json.dumps({"file_name": name} | row) if isinstance(row, dict) else str(row) for row in rows)
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_what_is_left_out_is_counted_by_kind_on_every_run(tmp_path: Path) -> None:
    for name in ("a.png", "b.jfif", "cat/c.PPM", "d.tga", "e.jpg"):
        save((tmp_path / name).with_suffix(".png"))
        form = {".jfif": "JPEG", ".PPM": "PPM", ".tga": "TGA", ".jpg": "JPEG"}.get(Path(name).suffix, "PNG")
        draw_shape("circle", "red", "plain").save(tmp_path / name, form)
        if not name.endswith(".png"):
            (tmp_path / name).with_suffix(".png").unlink()
    (tmp_path / "a.TXT").write_text("a ball")
    (tmp_path / "b.caption").write_text("a disc")
    (tmp_path / "b.txt").write_text("a plate")
    (tmp_path / "d.tga.txt").write_text("a dot")
    (tmp_path / "x.txt").write_text("of nothing")
    (tmp_path / "x.svg").write_text("<svg/>")
    (tmp_path / "y.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (tmp_path / "README.md").write_text("about")
    said: list[list[str]] = [[], []]
    first, later = (load(tmp_path, 16, DataConfig(), lines.append) for lines in said)
    captions = {entry.file.name: entry.captions for entry in first.entries}
    assert captions == {
        "a.png": ("a ball",),
        "b.jfif": ("a plate",),
        "c.PPM": ("cat",),
        "d.tga": ("a dot",),
        "e.jpg": (),
    }
    assert first.summary == later.summary
    assert said[0] == said[1]
    assert "y.heic" in said[0][0]
    for part in ("5 pictures, captions from .txt files", "1 with its folder's name as caption (cat/c.PPM)",
                 "1 without a caption", "1 caption file without a picture (x.txt)",
                 "1 caption file beside another of the same picture (b.caption)", "1 .svg not read (x.svg)",
                 "1 that cannot be read (y.heic)"):  # fmt: skip
        assert part in first.summary
    assert "README" not in first.summary


def test_caption_files_alone(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "a.Caption").write_bytes("a red ball\u2028on white\r\n\nsomething round".encode("utf-16"))
    listing = scan(tmp_path)
    assert listing.entries[0].captions == ("a red ball\u2028on white", "something round")
    assert listing.summary() == "1 picture, captions from .caption files"


@pytest.mark.parametrize("name", ["Train", "TEST", "Valid", "dev", "eval", "val"])
def test_splits_in_any_case(name: str, tmp_path: Path) -> None:
    save(tmp_path / name / "cat/a.png")
    entry = scan(tmp_path).entries[0]
    assert (entry.concept, entry.held_out) == ("cat", name != "Train")
    (tmp_path / name / "metadata.jsonl").write_text('{"file_name": "cat/a.png", "text": "x"}')
    entry = scan(tmp_path).entries[0]
    assert (entry.captions, entry.held_out) == (("x",), name != "Train")
    table(tmp_path, {"split": name}, name="b.png")
    assert [entry.held_out for entry in scan(tmp_path).entries if entry.file.name == "b.png"] == [name != "Train"]


def test_pictures_and_texts_beside_a_table_are_counted(tmp_path: Path) -> None:
    table(tmp_path, {"text": "x"}, {"file_name": "../" + tmp_path.name + "/a.png", "text": "y"})
    save(tmp_path / "b/c.png")
    for name in ("metadata.csv", "a.txt", "b/metadata.jsonl", "z.parquet"):
        (tmp_path / name).write_text("x")
    assert scan(tmp_path).summary() == (
        "2 pictures, captions from metadata.jsonl, 1 picture not named in metadata.jsonl (b/c.png), "
        "1 caption file not read (a.txt), 2 further tables not read (b/metadata.jsonl), "
        "1 .parquet not read (z.parquet)"
    )


def test_a_table_may_name_files_behind_links(tmp_path: Path) -> None:
    """As the cache of Hugging Face has them."""
    save(tmp_path / "blobs/1.png")
    (tmp_path / "set/far").mkdir(parents=True)
    (tmp_path / "set/a.png").symlink_to("../blobs/1.png")
    (tmp_path / "set/far/b").symlink_to("../../blobs")
    (tmp_path / "set/metadata.jsonl").write_text('{"file_name": "a.png"}\n{"file_name": "far/b/1.png"}')
    assert len(scan(tmp_path / "set").entries) == 2
    assert len(load(tmp_path / "set", 16, DataConfig())) == 2


@pytest.mark.parametrize(
    ("row", "captions", "tags"),
    [
        ({"text": ["a cat", "a feline"]}, ("a cat", "a feline"), ()),
        ({"text": 0}, ("0",), ()),
        ({"text": [1, "x"], "tags": [2, "y"]}, ("1", "x"), ("2", "y")),
        ({"text": None, "caption": "c", "tags": None}, ("c",), ()),
        ({"text": "", "caption": ["c"], "tags": "p, q,,"}, ("c",), ("p", "q")),
        ({"text": [], "tags": 7}, (), ("7",)),
        ({"text": "a\ud800b\u0000c"}, ("a?bc",), ()),
    ],
)
def test_texts_of_a_table(
    row: dict[str, Any], captions: tuple[str, ...], tags: tuple[str, ...], tmp_path: Path
) -> None:
    (entry,) = scan(table(tmp_path, row)).entries
    assert (entry.captions, entry.tags) == (captions, tags)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tags": True}, "tags is True; it wants a text or a list of texts"),
        ({"text": False}, "text is False"),
        ({"text": {"en": "x"}}, "text is {'en': 'x'}"),
        ({"text": ["a", None]}, r"text is \['a', None\]"),
        ({"style": ["a"]}, r"style is \['a'\]; it wants a text"),
        ({"split": True}, "split is True"),
        ({"weight": True}, "weight True is not a number"),
        ({"flip": "no"}, "flip .no. is not true or false"),
        ({"weight": 10**400}, "weight 1000.* is not a number"),
        ({"file_name": 7}, "file_name is 7"),
        ({"file_name": None}, "line 3 has no file_name"),
        ({"text": ["x"] * 1001}, "text: 1,001 texts of one picture"),
        ({"text": "x" * 10_001}, "a text of 10,001 characters; at most 10,000"),
        ("[" * 100_000, "line 3 is JSON that is nested"),
        ('{"text": ' + "[" * 900 + "]" * 900 + "}", "line 3 is JSON that is nested"),
        ('{"file_name": "a.png", "text": "' + "x" * (1 << 21) + '"}', "longer than"),
        ('{"text": "a", "text": "b"}', "'text' is given twice"),
        ('"a.png"', "has no file_name"),
    ],
)  # fmt: skip
def test_what_cannot_be_in_a_table_is_named_by_its_line(row: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"metadata\.jsonl: line 3.*{said}|metadata\.jsonl: {said}") as caught:
        scan(table(tmp_path, {"text": "x"}, "", row))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "\ud800", "/".join("x" * 3000)])
def test_names_that_no_file_can_have_are_missing_files(name: str, tmp_path: Path) -> None:
    listing = scan(table(tmp_path, {"text": "x"}, {"file_name": name}))
    assert len(listing.entries) == 1
    assert "1 named files missing (" in listing.summary()
    listing.summary().encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"file_name,text\na.png,caf\xe9", "line 2: not UTF-8"),
        (b"file_name,text\na.png,a ball, red\n", "line 2: 3 cells in 2 columns; quote"),
        (b'file_name,text\na.png,"a ball\n', "no CSV"),
        (b"file_name;text\na.png;ball\n", r"line 1: no column file_name, but \['file_name;text'\]"),
        (b"file_name,text,text\na.png,a,b\n", "two columns of one name"),
        (b"file_name,text\ra.png,x\r", "no CSV"),
        (b"f\0\n", "NUL"),
    ],
)
def test_csv_is_read_strictly(data: bytes, said: str, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_bytes(data)
    with pytest.raises(InputError, match=rf"metadata\.csv: .*{said}"):
        scan(tmp_path)


def test_csv_as_spreadsheets_write_it(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    text = 'file_name,text,weight\r\n\r\na.png,"a ball,\r\n""red""\u2028or so",2\r\n'
    for encoding in ("utf-8-sig", "utf-16", "utf-8"):
        (tmp_path / "metadata.csv").write_bytes(text.encode(encoding))
        (entry,) = scan(tmp_path).entries
        assert (entry.captions, entry.weight) == (('a ball,\n"red"\u2028or so',), 2.0)


def test_side_cars_are_read_strictly(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    for data, said in (
        (b"ok\n\ncaf\xe9", "line 3: not UTF-8"), (b"x" * (1 << 21), "line 1: longer than"),
        (b"x" * 20_000, "a text of 20,000 characters"), (b"x\n" * 1001, "1,001 texts of one picture"),
    ):  # fmt: skip
        (tmp_path / "a.txt").write_bytes(data)
        with pytest.raises(InputError, match=rf"a\.txt: {said}"):
            scan(tmp_path)


def test_folders_named_in_another_encoding(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/gr\xfcn"))
    for index in range(50):  # enough for some to be held out by name
        save(folder / os.fsdecode(b"caf\xe9") / f"{index}.png")
    (folder / "bad.png").write_text("hello")
    said: list[str] = []
    pictures = load(folder, 16, DataConfig(), said.append)
    assert {entry.captions for entry in pictures.entries} == {("café",)}
    json.dumps([said, pictures.summary, [e.concept for e in pictures.entries]], ensure_ascii=False).encode()
    assert "grün/bad.png: not an image" in said[0]


def test_an_attribution_of_any_encoding_is_recorded(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    for data in ("Fotos für alle".encode("latin-1"), "Fotos für alle".encode(), "Fotos für alle".encode("utf-16")):
        (tmp_path / "ATTRIBUTION.md").write_bytes(data)
        assert load(tmp_path, 16, DataConfig()).attribution == "Fotos für alle"
    (tmp_path / "ATTRIBUTION.md").write_bytes(b"x" * (1 << 20))
    assert len(load(tmp_path, 16, DataConfig()).attribution) == 1 << 16


def test_a_table_that_names_nothing(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    for text, said in (
        ("\n\n", "names no file"),
        ('{"file_name": "b.png"}', "none of its 1 files exists, the first: 'b.png'"),
    ):
        (tmp_path / "metadata.jsonl").write_text(text)
        with pytest.raises(InputError, match=said):
            scan(tmp_path)


def test_names_that_begin_as_those_of_notices_do(tmp_path: Path) -> None:
    for name in ("license plate", "readme"):
        save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(f"a {name}")
    (tmp_path / "LICENSE.txt").write_text("MIT")
    (tmp_path / "ATTRIBUTION.md").write_text("me")
    listing = scan(tmp_path)
    assert [entry.captions for entry in listing.entries] == [("a license plate",), ("a readme",)]
    assert listing.summary() == "2 pictures, captions from .txt files"


def test_names_from_the_root_and_by_way_of_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set/b").mkdir(parents=True)
    rows = [str(tmp_path / "set/a.png"), "b/../c.png", *(f"{index}.png" for index in range(50))]
    for name in ("a", "c", *range(50)):
        save(tmp_path / f"set/{name}.png")
    (tmp_path / "set/metadata.jsonl").write_text("".join(json.dumps({"file_name": name}) + "\n" for name in rows))
    pictures = load(Path("set"), 16, DataConfig())
    assert len(pictures) == 52
    assert {"set/a.png", "set/c.png"} <= {str(entry.file) for entry in pictures.entries}
    assert "not named" not in pictures.summary
