"""genctl models: one damaged file is one line, and the others are listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genctl.cli.main import execute


def with_document(source: Path, target: Path, **changed: Any) -> None:
    """A copy of a model whose header says something else."""
    data = source.read_bytes()
    length = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + length])
    document = json.loads(table["__metadata__"]["genctl"]) | changed
    table["__metadata__"]["genctl"] = json.dumps(document)
    raw = json.dumps(table).encode()
    target.write_bytes(len(raw).to_bytes(8, "little") + raw + data[8 + length :])


BAD = {
    "lists": {"can": [[]]}, "numbers": {"can": [1, 2]}, "null": {"can": [None]}, "text": {"can": "sample"},
    "table": {"can": {"sample": 1}}, "family": {"family": 3}, "pixels": {"pixels": [[]]}, "large": {"pixels": 10**30},
    "other": {"pixels": 3},
    "figures": {"figures": [1]}, "licence": {"licence": ["x"]}, "prompts": {"prompts": [3]}, "config": {"config": 1},
    "sampling": {"config": {"sampling": 3}}, "architecture": {"config": {"architecture": {}}},
}  # fmt: skip


def test_one_damaged_file_hides_no_other(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("GENCTL_MODELS", str(folder))
    with_document(models / "tiny-ldm.safetensors", folder / "good.safetensors")
    for name, changed in BAD.items():
        with_document(models / "tiny-ldm.safetensors", folder / f"bad-{name}.safetensors", **changed)
    assert execute(["models"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines.keys() >= {"good", "ldm", "vae", *(f"bad-{name}" for name in BAD)}
    assert lines["good"].endswith("text")
    assert "nothing sensible of 'can'" in lines["bad-lists"]
    assert "nothing sensible of 'can'" in lines["bad-numbers"]
    assert execute(["models", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["name"] for row in rows} == lines.keys() - {"NAME"}
    for name in BAD:
        draw = ["sample", "-m", f"bad-{name}", "-p", "cat", "--steps", "1", "--seed", "1", "-o", "x.png"]
        assert execute(draw) == 4, name
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        assert f"bad-{name}" in said
