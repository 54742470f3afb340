"""Lines of prompts are read strictly, from files and from stdin, in every command that takes them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from genctl.cli.jobs import Prompts, prompts_of
from genctl.cli.main import execute
from genctl.errors import InputError

SAMPLE = ["sample", "--model", "tiny-ldm", "--seed", "1", "--steps", "2"]


def drawn(capsys: pytest.CaptureFixture[str], data: bytes, *more: str) -> tuple[int, list[str], str]:
    """Exit code, prompts of the pictures, stderr."""
    Path("p.txt").write_bytes(data)
    capsys.readouterr()
    code = execute([*SAMPLE, "--prompts", "p.txt", "--json", "-f", *more])
    out, err = capsys.readouterr()
    return code, [json.loads(line)["prompt"] for line in out.split("\n") if line], err


def test_only_newlines_end_a_prompt(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = ["a\u2028b", "c\u0085d", "e\x0bf"]
    assert drawn(capsys, "\r\n".join(prompts).encode())[:2] == (0, prompts)
    assert drawn(capsys, "\n".join(prompts).encode("utf-16"))[:2] == (0, prompts)
    code, _, err = drawn(capsys, b"cat\n\n# a remark\ncaf\xe9\n")
    assert (code, "p.txt: line 4: not UTF-8 text (byte 0xe9 at 4)" in err) == (3, True)


NONE = [
    '{"prompt": null}', '{"prompt": ["cat"]}', '{"prompt": 7}', '{"prompt": "a", "prompt": "b"}', "{" * 10,
    '{"x":' + "[" * 100_000, '{"prompt": "' + "x" * (1 << 21) + '"}',
]  # fmt: skip


@pytest.mark.parametrize("row", NONE)
def test_a_prompt_that_is_none_is_refused(row: str, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, prompts, err = drawn(capsys, f"cat\n\n{row}\n".encode())
    assert (code, prompts, "p.txt: line 3" in err, err.count("\n")) == (3, [], True, 1), err[:500]


def test_null_leaves_other_options_as_usual(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, prompts, _ = drawn(capsys, b'{"prompt": "cat\\ud800\\u0000", "cfg": null}\n')
    assert (code, prompts) == (0, ["cat?"])


def test_a_line_of_stdin_that_is_no_text_is_passed_over(models: Path) -> None:
    command = [sys.executable, "-m", "genctl", *SAMPLE, "--prompts", "-", "--json"]
    given = b"cat\ncaf\xe9\nx\0y\nfox\n" + b"x" * (1 << 21) + b"\ndog\n"
    done = subprocess.run([*command, "-f"], input=given, capture_output=True, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row.get("prompt") or row["line"] for row in rows] == ["cat", 2, 3, "fox", 5, "dog"]
    for number in (2, 3, 5):
        assert f"stdin: line {number}:" in next(row["error"] for row in rows if row.get("line") == number)
    assert done.returncode == 3


def test_a_closed_stdin_and_one_of_utf_16(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "genctl", *SAMPLE, "--prompts", "-", "--json"]
    done = subprocess.run([*command, "-f"], input="cat\nfox\n".encode("utf-16"), capture_output=True, check=False)
    assert [json.loads(line)["prompt"] for line in done.stdout.splitlines()] == ["cat", "fox"]
    monkeypatch.setattr(sys, "stdin", None)
    assert execute([*SAMPLE, "--prompts", "-"]) == 2


def test_distilling_takes_the_same_lines(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes('\ufeffcat\n\n{"prompt": "dog"}\n# no\nfo\u2028x\n'.encode())
    assert prompts_of(str(tmp_path / "p.txt")) == ["cat", "dog", "fo\u2028x"]
    assert [number for number, _ in Prompts(str(tmp_path / "p.txt"))] == [1, 3, 5]
    for row in (b"\xe9", b'{"prompt": null}', b'{"prompt": "a", "seed": 1}', b'{"class": "a"}'):
        (tmp_path / "p.txt").write_bytes(b"cat\n\n" + row)
        with pytest.raises(InputError, match=r"p\.txt: line 3"):
            prompts_of(str(tmp_path / "p.txt"))


@pytest.mark.slow
def test_a_line_with_a_list_is_checked_once_however_many_pictures_it_wants(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from genctl.cli import jobs

    checked = []
    job_of = jobs.job_of
    monkeypatch.setattr(jobs, "job_of", lambda *given: checked.append(0) or job_of(*given))
    Path("p.txt").write_text('{"prompt": "cat", "n": 50000, "also": [["hat", 0.5]]}\n')
    assert execute(["sample", "-m", "tiny-ldm", "--prompts", "p.txt", "--grid", "-o", "x.png"]) == 2
    assert "megapixels" in capsys.readouterr().err
    assert len(checked) == 2  # as the line is read, and as it is planned
