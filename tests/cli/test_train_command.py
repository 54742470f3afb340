"""genctl train as a user runs it: a run folder that is a model name, resumed by the same command."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import shape_folder
from PIL import Image

from genctl.cli.main import execute
from genctl.cli.progress import TrainingDisplay
from genctl.training.run import Run

VAE = ["train", "data", "--model", "vae", "--preset", "tiny", "--threads", "1", "-o", "runs/codec",
       "--set", "train.batch=4", "--set", "model.net.channels=[8,8]"]  # fmt: skip
LDM = ["train", "data", "--model", "ldm", "--preset", "tiny", "--threads", "1", "-o", "runs/mine",
       "--set", "train.batch=4", "--set", "model.codec=tiny-vae", "--set", "model.net.patch=2"]  # fmt: skip


@pytest.fixture(autouse=True)
def data(models: Path) -> Path:
    return shape_folder(Path("data"), 1)


def test_train_encode_with_it_and_resume(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*VAE, "--steps", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == "runs/codec/model.safetensors"
    assert "16 pictures, captions from metadata.jsonl, 3 held out" in err
    assert "held out loss" in err
    assert execute(["encode", "data/circle-red-plain-0.png", "--model", "runs/codec", "-o", "c.safetensors"]) == 0
    assert execute(["info", "runs/codec", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["training"]["steps"] == 3
    assert said["data"]["pictures"] == 16
    assert execute([*VAE, "--steps", "3"]) == 0  # done already: nothing to do, nothing broken
    assert "resuming runs/codec at step 3" in capsys.readouterr().err
    assert execute([*VAE, "--steps", "2"]) == 2
    assert "train.steps: 3 -> 2" in capsys.readouterr().err
    assert execute([*VAE, "--minutes", "9"]) == 2
    assert "train.minutes: null -> 9.0" in capsys.readouterr().err
    assert execute([*VAE, "--steps", "4", "--set", "train.clip=2.0"]) == 2
    said = capsys.readouterr().err
    assert "train.clip: 1.0 -> 2.0" in said
    assert "train.steps" not in said
    assert execute([*VAE, "--steps", "4"]) == 0  # longer: goes on
    assert json.loads(Path("runs/codec/run.json").read_text())["train"]["steps"] == 4
    rows = [json.loads(line) for line in Path("runs/codec/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [3, 4]


@pytest.mark.parametrize(
    "changed", ["train.optimiser=muon", "model.loss.train_encoder=false"], ids=["optimiser", "trained parameters"]
)
def test_a_state_of_another_optimiser_is_refused_and_the_run_left_as_it_was(
    changed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [*VAE, "--set", "train.optimiser=adamw"]
    assert execute([*plain, "--steps", "1"]) == 0
    before = Path("runs/codec/run.json").read_bytes()
    capsys.readouterr()
    assert execute([*plain, "--steps", "2", "--override", "--set", changed]) == 2
    said = capsys.readouterr().err
    assert "its state is of another network or optimiser" in said
    assert "--init runs/codec" in said
    assert Path("runs/codec/run.json").read_bytes() == before
    assert execute([*plain, "--steps", "2"]) == 0


def test_train_a_text_model_and_draw(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*LDM, "--steps", "2"]) == 0
    assert execute(["sample", "--model", "runs/mine", "-p", "red circle", "--steps", "2", "-o", "a.png"]) == 0
    assert Image.open("a.png").size == (32, 32)
    assert (
        execute([*LDM[:-2], "-o", "runs/more", "--set", "model.net.patch=2", "--steps", "1", "--init", "runs/mine"])
        == 0
    )
    assert "from runs/mine" in capsys.readouterr().err
    other = [*LDM, "-o", "runs/other", "--steps", "1", "--set", "model.net.width=64", "--init", "runs/mine"]
    assert execute(other) == 0
    assert "genctl: --init runs/mine: only" in capsys.readouterr().err
    shutil.rmtree("runs/mine")
    assert execute(other) == 0  # resumed, which needs no beginning
    assert "--init" not in capsys.readouterr().err


@pytest.mark.parametrize(("options", "code", "words"), [
    (["--init", "tiny-ldm"], 2, "--init tiny-ldm: a model of family ldm, not vae"),
    (["--init", "tiny-va"], 4, 'did you mean "tiny-vae"'),
    (["--init", "minilm"], 4, "unknown model 'minilm'"),
    (["-o", "file"], 2, "is a file; give a folder for the run"),
    (["-o", "file/run"], 2, "is a file; give a folder for the run"),
    (["-o", "-"], 2, "-o -: a run is a folder"),
    (["-o", "cat.safetensors"], 2, "-o cat.safetensors: a run is a folder"),
    (["-o", "data"], 2, "-o data: not empty and not a run"),
    (["--set", "data.held_out=1.5"], 2, "data.held_out is 1.5"),
    (["--set", "data.jitter=-1"], 2, "data.jitter is -1"),
])  # fmt: skip
def test_what_cannot_be_trained_is_said_before_the_data_are_read(
    options: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").touch()
    before = set(Path().rglob("*"))
    assert execute([*VAE, "--steps", "1", *options]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), words in err) == ("", 1, True), err
    assert set(Path().rglob("*")) == before


def test_pictures_without_captions_make_a_model_without_prompts(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/metadata.jsonl").unlink()
    assert execute([*LDM, "--steps", "1"]) == 0
    err = capsys.readouterr().err
    assert "genctl: data: no captions, so the model will not know any prompt" in err
    assert err.endswith("try: genctl sample --model runs/mine\n")


def test_the_speed_is_shown_once_it_is_known() -> None:
    display = TrainingDisplay("auto", quiet=False)
    row = {"step": 20, "minutes": 1.0, "progress": 0.5, "loss": 0.25, "images": 100}
    assert display._line(row, 10.0) == "step 20 50% loss 0.250, 1 min left"
    assert "0.4 images/s" in display._line(row | {"images": 102}, 15.0)


def test_a_data_set_that_changed_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*VAE, "--steps", "2"]) == 0
    before = Path("data/circle-red-plain-0.png").read_bytes()
    table = Path("data/metadata.jsonl").read_text()
    Image.new("RGB", (32, 32), "black").save("data/circle-red-plain-0.png")
    capsys.readouterr()

    def said() -> str:
        assert execute([*VAE, "--steps", "2"]) == 2
        return capsys.readouterr().err.splitlines()[-1].split("otherwise ")[1].split(";")[0]

    assert said() == "(data: the same number of pictures, but other ones)"
    Path("data/circle-red-plain-0.png").write_bytes(before)
    Path("data/metadata.jsonl").write_text(table.replace("red circle", "red ring"))
    assert said() == "(data: the same pictures with other captions, splits or weights)"
    Path("data/metadata.jsonl").write_text("".join(table.splitlines(keepends=True)[1:]))
    assert said() == "(data: 1 picture fewer (15, were 16))"
    Path("data/metadata.jsonl").write_text(table + table.splitlines()[0] + "\n" + table.splitlines()[1])
    assert said() == "(data: 2 pictures more (18, were 16))"
    Path("data/metadata.jsonl").write_text(table)
    run = json.loads(Path("runs/codec/run.json").read_text())
    for key in ("pictures", "content", "captions"):  # as earlier versions wrote it
        del run["data"][key]
    Path("runs/codec/run.json").write_text(json.dumps(run))
    assert execute([*VAE, "--steps", "2"]) == 0


def test_eval_of_a_codec_and_of_a_text_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["eval", "tiny-vae", "data", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["count"] == 3
    assert said["psnr"] > 0
    assert execute(["eval", "tiny-ldm", "data", "--limit", "2", "--steps", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["concepts"] == 8
    assert said["held_out"]["drawn"]["count"] == 2
    assert 0 <= said["held_out"]["ceiling"]["top1"] <= 1


def test_eval_of_a_codec_says_how_many_and_of_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["eval", "tiny-vae", "data", "--limit", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["count"], json.loads(out)["held_out"]) == (2, True)
    assert err == "data: 16 pictures, captions from metadata.jsonl, 3 held out (crop to 32 px)\n"
    for name in ("a.png", "b.png", "c.png"):
        Path("flat").mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), "red").save(Path("flat") / name)
    assert execute(["eval", "tiny-vae", "flat", "--limit", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["count"], json.loads(out)["held_out"]) == (2, False)
    assert "flat: nothing is held out" in err


@pytest.mark.slow
def test_ctrl_c_saves_and_says_130() -> None:
    command = [sys.executable, "-m", "genctl", *VAE, "--minutes", "5"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not Path("runs/codec/metrics.jsonl").exists():
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.rstrip().endswith("genctl: interrupted")
    assert list(Path("runs/codec").glob("state-*.safetensors"))
    with Run(Path("runs/codec")).locked():  # the lock went with the process
        pass


@pytest.mark.slow
def test_kill_while_sampling_leaves_whole_pictures_only() -> None:
    command = [sys.executable, "-m", "genctl", "sample", "-m", "tiny-ldm", "-n", "200", "--batch", "1", "-o", "out/"]
    for wait in (0.0, 0.13, 0.29, 0.41, 0.57):
        process = subprocess.Popen([*command, "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(Path("out").glob("*.png"))) < 3:
            time.sleep(0.01)
        time.sleep(wait)
        process.kill()
        process.wait()
        for path in Path("out").glob("*.png"):
            Image.open(path).load()
            assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
            path.unlink()
