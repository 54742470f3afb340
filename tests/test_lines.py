"""Text is read strictly: by its lines, in its encoding, of a bounded size; what is no text is named with its line."""

import io
import os
import threading
from pathlib import Path

import pytest

from genctl.errors import InputError
from genctl.text import MOST_LINE, Lines, clean, lenient, parse_json, read_lines, shown

SAID = "a\u2028b\u0085c\r\n\nnaïve 猫\n"
WANTED = [(1, "a\u2028b\u0085c"), (2, ""), (3, "naïve 猫")]


def lines(data: bytes) -> list[tuple[int, str]]:
    return list(Lines(io.BytesIO(data), "x.txt"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_every_encoding_that_says_itself(encoding: str) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    assert lines(mark + SAID.encode(encoding)) == WANTED
    assert lines(mark + SAID[:-1].encode(encoding)) == WANTED  # no newline at the end
    assert lines(mark + "Ċ\u0a0a\nx\u0a00".encode(encoding)) == [(1, "Ċ\u0a0a"), (2, "x\u0a00")]  # bytes of newlines
    assert lines(mark) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"good\n\ncaf\xe9\n", r"x\.txt: line 3: not UTF-8 text \(byte 0xe9 at 4\); save it as UTF-8"),
        (b"\xed\xa0\x80", r"x\.txt: line 1: not UTF-8"),  # a lone surrogate
        (b"\xff\xfea\0\n\0\0\xd8", r"x\.txt: line 2: not UTF-16"),
        (b"\xff\xfea", r"x\.txt: line 1: not UTF-16"),
        (b"a\0b\0\n\0", r"x\.txt: line 1: holds a NUL"),
        (b"a\n" + b"x" * (MOST_LINE + 1), r"x\.txt: line 2: longer than"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_named_with_its_line(data: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        lines(data)


@pytest.mark.parametrize("bad", [b"\xe9", b"\0", b"x" * (3 * MOST_LINE)])
def test_after_a_bad_line_comes_the_next(bad: bytes) -> None:
    reader = Lines(io.BytesIO(b"a\n" + bad + b"\nb\n"), "x.txt")
    assert next(reader) == (1, "a")
    with pytest.raises(InputError):
        next(reader)
    assert list(reader) == [(3, "b")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_line_of_a_live_pipe_is_given_out_before_the_next_comes(encoding: str) -> None:
    out, into = os.pipe()
    with open(out, "rb") as stream, open(into, "wb", buffering=0) as writer:
        reader, said = Lines(stream, "stdin"), "cat\ndog\n".encode(encoding)
        half = said.index("d".encode(encoding)[-2:].strip(b"\0")) if encoding == "utf-8" else len(said) - 8
        found: list[tuple[int, str]] = []
        for part in (said[:half], said[half:]):
            writer.write(part)
            thread = threading.Thread(target=lambda: found.append(next(reader)), daemon=True)
            thread.start()
            thread.join(20)
            assert not thread.is_alive()
        assert found == [(1, "cat"), (2, "dog")]


def test_a_file_without_an_end_is_refused_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "huge.txt").write_bytes(b"")
    os.truncate(tmp_path / "huge.txt", 1 << 29)
    with pytest.raises(InputError, match=r"huge\.txt: 512 MiB of text; at most 256 MiB"):
        list(read_lines(tmp_path / "huge.txt"))
    for name in ("gone.txt", ".", "a\0b"):
        with pytest.raises(InputError, match="cannot be read"):
            list(read_lines(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested"),
        ("[" * 500 + "]" * 500, "nested more than 32"),
        ("1" * 10_000, "not JSON"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ("{", "not JSON"),
    ],
)
def test_json_of_a_bounded_depth(text: str, said: str) -> None:
    with pytest.raises(InputError, match=f"here is .*{said}"):
        parse_json(text, "here")


def test_text_that_is_recorded_is_never_a_fault() -> None:
    assert lenient("Förf".encode("latin-1")) == lenient("Förf".encode()) == lenient("Förf".encode("utf-16")) == "Förf"
    assert lenient(b"\xef\xbb\xbfa\0b") == "ab"
    assert clean("a\ud800b\0") == "a?b"


def test_names_of_other_encodings_are_shown(tmp_path: Path) -> None:
    assert shown(os.fsdecode(b"/gr\xfcn/caf\xe9") + "/ü") == "/grün/café/ü"
    assert shown("\ud800") == "?"
