"""Standard streams that are closed, pipes that nobody writes to, two commands at once: no traceback, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import shape_folder
from PIL import Image, PngImagePlugin

from genctl import hub
from genctl.cli.main import execute
from genctl.errors import ModelError
from genctl.families.saved import load, save
from genctl.media.provenance import read_provenance

GENCTL = [sys.executable, "-m", "genctl"]
DRAW = "sample -m tiny-ldm -p cat --steps 1 --seed 1 -q"


def shell(command: str) -> subprocess.CompletedProcess[str]:
    line = command.replace("genctl", f"{sys.executable} -m genctl", 1)
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (f"genctl {DRAW} -o a.png >&-", 0),
        (f"genctl {DRAW} -o a.png 2>&- <&-", 0),
        (f"genctl {DRAW} -o - >&-", 2),
        ("genctl sample -m tiny-ldm --prompts - -o a.png <&-", 2),
        ("genctl encode - -m tiny-vae -o a.safetensors <&-", 2),
        ("genctl decode - <&-", 2),
        ("genctl models >&- 2>&- <&-", 0),
    ],
)
def test_closed_streams_are_no_fault(models: Path, command: str, code: int) -> None:
    done = shell(command)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    if "a.png" in command and code == 0:
        assert read_provenance(Path("a.png").read_bytes())["prompt"] == "cat"  # type: ignore[index]


def test_errors_never_go_to_stdout(models: Path) -> None:
    done = shell("genctl sample -m no-such-model 2>&-")
    assert (done.returncode, done.stdout) == (4, "")


def test_a_pipe_that_nobody_writes_to_is_said(models: Path) -> None:
    os.mkfifo("pipe")
    for command in (["encode", "pipe", "-m", "tiny-vae"], ["decode", "pipe"], ["info", "pipe"],
                    ["sample", "-m", "pipe"], ["sample", "-m", "tiny-ldm", "--image", "pipe", "-p", "x"]):  # fmt: skip
        done = subprocess.run([*GENCTL, *command], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in (3, 4), (command, done.stderr)
        assert "pipe" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_pipe_that_somebody_writes_to_is_read(models: Path) -> None:
    Image.new("RGB", (32, 32), "teal").save("a.png")
    done = shell("genctl encode <(sleep .3; cat a.png) -m tiny-vae -o a.safetensors")
    assert (done.returncode, Path("a.safetensors").exists()) == (0, True), done.stderr


@pytest.mark.parametrize("name", ["~nosuchuser", "x" * 5000, "a\x1b[31mb", "hf://"])
def test_names_that_cannot_be_end_in_one_clear_line(
    models: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["sample", "-m", name], ["info", name], ["encode", name], ["decode", name],
                    ["train", name, "-m", "vae"], ["sample", "-m", "tiny-ldm", "--prompts", name],
                    ["plot", "run", name], ["sample", "--like", name], ["eval", "tiny-vae", name]):  # fmt: skip
        code = execute(command)
        said = capsys.readouterr().err
        assert code in (2, 3, 4, 5), (command[:2], code, said)
        assert len(said.splitlines()) == 1
        assert "\x1b" not in said
        assert len(said) < 2000


def test_a_file_that_names_another_elsewhere_is_followed_on_trust_only(
    models: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, pictures = load("tiny-ldm"), shape_folder(Path("data"), 1)
    document = {"parts": model.info["parts"]}
    asked: list[str] = []
    monkeypatch.setattr(hub, "_download", lambda name: asked.append(name) or model_folder / "tiny-vae.safetensors")
    elsewhere = ["hf://owner/repo", str(model_folder / "tiny-vae.safetensors"), "../x", "~/x", "https://a/b"]
    for index, name in enumerate(elsewhere):
        object.__setattr__(model.config, "codec", name)
        save(model, Path(f"m{index}.safetensors"), model.state_dict(), document)
        command = ["sample", "-m", f"m{index}.safetensors", "-p", "cat", "--steps", "1", "-o", "x.png", "-f"]
        assert execute(command) == 4
        assert "--trust follows it" in capsys.readouterr().err
        assert not asked
        if index < 2:
            assert execute([*command, "--trust"]) == 0
            learns = ["distill", "-m", f"m{index}.safetensors", "--data", str(pictures), "--updates", "1", "--trust"]
            assert execute([*learns, "--set", "train.batch=4", "-o", f"run{index}"]) == 0
            asked.clear()
    with pytest.raises(ModelError):
        hub.resolve("hf://owner/repo", kind="part")
    assert not asked


def test_two_commands_that_write_the_same_names_lose_nothing(models: Path) -> None:
    command = [*GENCTL, *DRAW.split(), "-n", "12", "-o", "out/"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [path for one in both for path in (one.communicate(timeout=120)[0]).split()]
    assert len(said) == len(set(said))
    assert sorted(said) == sorted(str(path) for path in Path("out").iterdir())
    assert len(said) in (12, 24)  # the second may have come too late, and was refused


def test_names_are_claimed_when_they_are_written(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from genctl.media import names
    from genctl.media.names import check_writable  # passes, as if the file came later

    assert check_writable is names.check_writable
    Path("a.png").write_bytes(b"somebody else's")
    monkeypatch.setattr(names, "check_writable", lambda *_: None)
    assert execute([*DRAW.split(), "-o", "a.png"]) == 0
    assert Path("a.png").read_bytes() == b"somebody else's"
    assert read_provenance(Path("a-2.png").read_bytes()) is not None


def test_what_a_killed_command_left_goes(models: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    from genctl.writing import HOST

    out = Path("out")
    out.mkdir()
    left = out / f".a.png.{HOST}-{dead.pid}-abc123"
    living = out / f".a.png.{HOST}-{os.getpid()}-abc123"
    fresh = out / f".b.png.{HOST}-{dead.pid}-abc123"  # perhaps of another container with this host name
    other = out / f".a.png.00000000-{dead.pid}-abc123"
    for path in (left, living, fresh, other):
        path.write_bytes(b"half")
    for path in (left, living, other):
        os.utime(path, (0, 0))
    assert execute([*DRAW.split(), "-o", "out/"]) == 0
    assert [path.exists() for path in (left, living, fresh, other)] == [False, True, True, True]


def test_json_of_a_file_with_lone_surrogates_is_printed(models: Path, capsys: pytest.CaptureFixture[str]) -> None:

    info = PngImagePlugin.PngInfo()
    info.add_itxt("genctl", json.dumps({"model": "x", "prompt": "\ud800 \x1b[31m"}))
    Image.new("RGB", (8, 8)).save("a.png", pnginfo=info)
    assert execute(["info", "a.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"].startswith("?")
    assert execute(["info", "a.png"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_json_never_carries_what_a_terminal_obeys(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = "\x1b[31m \x9b31m \x7f \u2028 \u202e \U000e0041 [bold]x[/bold] caf\u00e9 \U0001f408"
    info = PngImagePlugin.PngInfo()
    info.add_itxt("genctl", json.dumps({"model": "tiny-ldm", "prompt": odd, "seed": 3, "steps": 1}))
    Image.new("RGB", (32, 32)).save("a.png", pnginfo=info)
    Path("p.txt").write_text(json.dumps({"prompt": odd}) + "\n")
    draw = ["sample", "-m", "tiny-ldm", "--steps", "1", "--json", "--progress", "json", "-f", "-o", "b.png"]
    for command in (["info", "a.png", "--json"], [*draw, "--prompts", "p.txt"], [*draw, "--like", "a.png"]):
        assert execute(command) == 0
        out, err = capsys.readouterr()
        assert len(out.splitlines()) == 1
        assert json.loads(out)["prompt"] == odd
        assert "caf\u00e9 \U0001f408" in out  # what is text stays readable
        assert all(mark.isprintable() or mark == "\n" for mark in out + err)
