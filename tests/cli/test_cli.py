"""Commands as people type them: results, streams, seeds, provenance, and every error as one line with its exit code."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from genctl import files
from genctl.cli.main import execute
from genctl.media.stream import split_pngs
from genctl.media.write import write_picture

SAMPLE = ["sample", "--model", "tiny-ldm", "--steps", "2"]


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, for streams."""
    return subprocess.run([sys.executable, "-m", "genctl", *arguments], input=stdin, capture_output=True, check=False)


def picture(path: Path, size: tuple[int, int] = (32, 32), colour: str = "red") -> Path:
    Image.new("RGB", size, colour).save(path)
    return path


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and message of a command that must fail with one line and write nothing new."""
    before = set(Path().rglob("*"))
    code = execute(list(arguments))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("genctl: ")
    assert err.count("\n") == 1, err
    assert set(Path().rglob("*")) == before
    return code, err


# sampling ------------------------------------------------------------------------------------------------------------
def test_sample_writes_named_pictures(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*SAMPLE, "--prompt", "a red cat", "--seed", "5", "-n", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == ["a-red-cat-5.png", "a-red-cat-6.png"]
    assert Image.open("a-red-cat-5.png").size == (32, 32)
    assert execute([*SAMPLE, "--prompt", "a red cat", "--seed", "5", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)  # all of it, and never over another
    assert (said["path"], said["seed"], said["prompt"]) == ("a-red-cat-5-2.png", 5, "a red cat")
    assert (said["model"], said["steps"], said["solver"], said["size"]) == ("tiny-ldm", 2, "euler", "32x32")
    assert said["sha256"] == files.file_sha256(models / "tiny-ldm.safetensors")


def test_a_picture_depends_on_its_seed_alone(models: Path) -> None:
    execute([*SAMPLE, "-p", "cat", "--seed", "10", "-n", "5", "-o", "all-{seed}.png", "--batch", "3", "-q"])
    execute([*SAMPLE, "-p", "cat", "--seed", "13", "-o", "one.png", "-q"])
    assert Path("all-13.png").read_bytes() == Path("one.png").read_bytes()
    assert Path("all-12.png").read_bytes() != Path("one.png").read_bytes()


def test_provenance_repeats_the_picture(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "-p",
        "猫 é",
        "--seed",
        "3",
        "--cfg",
        "2.5",
        "--solver",
        "heun",
        "--negative",
        "dog",
        "--interval",
        "0.2,0.9",
    ]
    execute([*SAMPLE, *options, "-o", "a.png"])
    execute(["sample", "--like", "a.png", "-o", "b.png"])
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    capsys.readouterr()
    assert execute(["info", "a.png", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["prompt"] == "猫 é"
    assert (said["seed"], said["guidance_scale"], said["solver"], said["model"]) == (3, 2.5, "heun", "tiny-ldm")
    assert len(said["sha256"]) == 64
    execute([*SAMPLE, "-p", "cat", "--seed", "3", "--no-metadata", "-o", "c.png"])
    assert not Image.open("c.png").info


def test_settings_change_the_picture(models: Path) -> None:
    changes = {"base": [], "cfg": ["--cfg", "1"], "steps": ["--steps", "3"], "solver": ["--solver", "heun"],
               "prompt": ["-p", "dog"], "negative": ["--negative", "dog"], "seed": ["--seed", "2"]}  # fmt: skip
    made = set()
    for name, change in changes.items():
        prompt = [] if name == "prompt" else ["-p", "cat"]
        assert execute([*SAMPLE, *prompt, "--seed", "1", *change, "-o", f"{name}.png", "--no-metadata"]) == 0
        made.add(Path(f"{name}.png").read_bytes())
    assert len(made) == len(changes)


def test_many_prompts_in_one_call(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("list.txt").write_text('cat\n\n{"prompt": "dog", "seed": 9, "n": 2}\n')
    assert execute([*SAMPLE, "--prompts", "list.txt", "--seed", "4", "-o", "out/", "-q"]) == 0
    assert capsys.readouterr().out.split() == ["out/cat-4.png", "out/dog-9.png", "out/dog-10.png"]


def test_grid(models: Path) -> None:
    assert execute([*SAMPLE, "--seeds", "1,2,3,4", "--grid", "-o", "grid.webp"]) == 0
    assert Image.open("grid.webp").size == (66, 66)


def test_long_strange_and_empty_prompts(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index, prompt in enumerate(
        ("", "x" * 10_000, "кот кошка", "🐈‍⬛", "../../etc", "\x00\x1b[31m", "a" * 3 + " b" * 50)
    ):
        assert execute([*SAMPLE, "-p", prompt, "--seed", "1"]) == 0, index
    out, err = capsys.readouterr()
    assert "prompt cut" in err
    assert all(Path(line).parent == Path() for line in out.splitlines())


# streams -------------------------------------------------------------------------------------------------------------
def test_sample_encode_decode_through_pipes(models: Path) -> None:
    quiet = ("--progress", "none")  # on a busy machine a line says how far it is
    drawn = run(*SAMPLE, "-p", "cat", "--seed", "1", "-n", "3", *quiet, "-o", "-")
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stderr == b""  # no warning of a library either: torch warns where numpy is missing
    pictures = list(split_pngs(io.BytesIO(drawn.stdout)))
    assert len(pictures) == 3
    codes = run("encode", "-", "--model", "tiny-vae", "-o", "-", stdin=drawn.stdout)
    back = run("decode", "-", "-o", "-", stdin=codes.stdout)
    assert back.returncode == 0, back.stderr
    assert [Image.open(io.BytesIO(data)).size for data in split_pngs(io.BytesIO(back.stdout))] == [(32, 32)] * 3
    files = run("decode", "-", "-o", "out-{i}.png", stdin=codes.stdout)
    assert files.stdout.decode().split() == ["out-0.png", "out-1.png", "out-2.png"]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_ffmpeg_reads_ours_and_we_read_ffmpeg(models: Path) -> None:
    drawn = run(*SAMPLE, "--seed", "1", "-n", "3", "-o", "-").stdout
    ffmpeg = ["ffmpeg", "-v", "error", "-f", "image2pipe"]
    raw = subprocess.run(
        [*ffmpeg, "-i", "-", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], input=drawn, capture_output=True, check=True
    ).stdout
    ours = b"".join(Image.open(io.BytesIO(data)).convert("RGB").tobytes() for data in split_pngs(io.BytesIO(drawn)))
    assert raw == ours
    test_card = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=40x24:rate=2:duration=2",
        "-f",
        "image2pipe",
    ]
    theirs = subprocess.run([*test_card, "-c:v", "png", "-"], capture_output=True, check=True).stdout
    codes = run("encode", "-", "--model", "tiny-vae", "-o", "-", stdin=theirs)
    back = run("decode", "-", "-o", "-", stdin=codes.stdout)
    assert [Image.open(io.BytesIO(data)).size for data in split_pngs(io.BytesIO(back.stdout))] == [(40, 24)] * 4


def test_a_reader_that_closes_early_is_no_error(models: Path) -> None:
    command = f"{sys.executable} -m genctl {' '.join(SAMPLE)} -n 40 --batch 1 -o -"
    made = subprocess.run(["bash", "-c", f"{command} | head -c 20 >/dev/null; echo ${{PIPESTATUS[0]}}"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert made.stdout.strip() in ("0", "141")
    assert "Traceback" not in made.stderr
    assert "fault" not in made.stderr


# codes ---------------------------------------------------------------------------------------------------------------
def test_codes_name_their_model(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(Path("a.png"), (40, 33))
    assert execute(["encode", "a.png", "--model", "tiny-vae"]) == 0
    assert capsys.readouterr().out.strip() == "a.safetensors"
    assert execute(["decode", "a.safetensors", "-o", "b.png"]) == 0
    assert Image.open("b.png").size == (40, 33)  # padded to the codec's multiple within, cut again
    capsys.readouterr()
    execute(["info", "a.safetensors", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert (said["model"], said["pixels"], said["shape"]) == ("tiny-vae", [33, 40], [2, 9, 10])


def test_interpolate_pictures_seeds_and_prompts(models: Path) -> None:
    picture(Path("a.png"))
    picture(Path("b.png"), colour="blue")
    assert execute(["interpolate", "a.png", "b.png", "--model", "tiny-vae", "--frames", "5", "-o", "strip.png"]) == 0
    assert Image.open("strip.png").size == (5 * 32 + 4 * 2, 32)
    assert execute(["interpolate", "a.png", "b.png", "--model", "tiny-vae", "--frames", "4", "-o", "walk.gif"]) == 0
    assert Image.open("walk.gif").n_frames == 4
    seeds = ["interpolate", "--seeds", "1,2,3", "-m", "tiny-ldm", "--steps", "2", "--frames", "5"]
    assert execute([*seeds, "-p", "cat", "-o", "frames/"]) == 0
    assert sorted(path.name for path in Path("frames").iterdir()) == [f"{i}.png" for i in range(5)]
    execute([*SAMPLE, "-p", "cat", "--seed", "2", "-o", "two.png"])
    middle, alone = (Image.open(name).tobytes() for name in ("frames/2.png", "two.png"))
    assert middle == alone  # the walk passes through the pictures of its seeds
    prompts = ["interpolate", "--prompts", "cat", "dog", "-m", "tiny-ldm", "--steps", "2", "--frames", "3"]
    assert execute([*prompts, "--seed", "2", "-o", "p-{i}.png"]) == 0
    assert Image.open("p-0.png").tobytes() == alone


# errors --------------------------------------------------------------------------------------------------------------
def test_errors_of_usage(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        ("smaple",): "sample",
        ("sample", "--stepz", "3"): "--steps",
        ("sample", "--steps", "0"): "steps",
        ("sample", "--seed", "99999999999999999999"): "--seed",
        ("sample", "-m", "tiny-ldm", "--seeds", "1,2", "-n", "3"): "leave out",
        ("sample", "-m", "tiny-ldm", "--interval", "0.9,0.1"): "LOW,HIGH",
        ("encode", "a.png", "--size", "-4"): "--size",
        ("eval", "tiny-vae", "data", "--solver", "heum"): "heun",
        ("train", "x", "--model", "vae", "--steps", "1", "--set", "train.batch=0"): "train.batch",
        ("train", "x", "--steps", "1", "--set", "model.net.heads=3"): "heads",
        ("sample", "-m", "tiny-ldm", "--solver", "heum"): 'did you mean "heun"',
        ("sample", "-m", "tiny-ldm", "-o", "a.tga"): "unknown ending",
        ("sample", "-m", "tiny-ldm", "-n", "2", "-o", "a.png"): "{i}",
        ("sample", "-m", "tiny-ldm", "-o", "{sed}.png"): 'did you mean "seed"',
        ("sample", "-m", "tiny-ldm", "--seeds", "x"): "--seeds",
        ("sample", "-m", "tiny-ldm", "--interval", "1"): "LOW,HIGH",
        ("sample", "-m", "tiny-ldm", "--device", "cuda:9"): "--device",
        ("sample", "-m", "tiny-ldm", "--dtype", "fp8"): "fp32",
        ("sample", "-m", "tiny-vae"): "cannot sample; models that can:",
        ("interpolate", "--seeds", "1,2", "--prompts", "a", "b"): "one of the three",
        ("interpolate", "a.png"): "two ends",
        ("train", "x", "--model", "ldn"): 'did you mean "ldm"',
        ("train", "x", "--minutes", "1", "--steps", "1"): "not both",
        ("train", "x", "--model", "vae", "--set", "model.net.laten=3", "--steps", "1"): 'did you mean "latent"',
        ("train", "x", "--preset", "cpi"): 'did you mean "cpu"',
    }
    for arguments, message in cases.items():
        code, said = failure(capsys, *arguments)
        assert (code, message in said) == (2, True), (arguments, code, said)


def test_cfg_on_a_model_without_conditions(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from genctl import files

    tensors, header = files.load_tensors(models / "tiny-ldm.safetensors")
    document = header.document | {"can": ["sample"]}
    copied = {key: value.clone() for key, value in tensors.items()}
    files.save_tensors(Path("plain.safetensors"), copied, {"genctl": json.dumps(document)})
    code, said = failure(capsys, "sample", "-m", "./plain.safetensors", "--cfg", "3", "-o", "x.png")
    assert (code, "takes no condition to guide by" in said) == (2, True)


def test_errors_of_input(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.png").write_text("hello")
    Path("empty.png").write_bytes(b"")
    picture(Path("good.png"))
    Path("cut.png").write_bytes(Path("good.png").read_bytes()[:-20])
    Path("dir").mkdir()
    cases = {
        ("encode", "gone.png", "-m", "tiny-vae"): "gone.png: no such file",
        ("encode", "text.png", "-m", "tiny-vae"): "text.png: not an image",
        ("encode", "empty.png", "-m", "tiny-vae"): "empty",
        ("encode", "cut.png", "-m", "tiny-vae"): "cut",
        ("encode", "dir", "-m", "tiny-vae"): "no pictures",
        ("decode", "gone.safetensors"): "no such file",
        ("decode", "good.png"): "good.png",
        ("decode", str(models / "tiny-vae.safetensors")): "vae model",
        ("train", "gone", "--model", "vae", "--steps", "1"): "no such folder",
        ("train", "dir", "--model", "vae", "--steps", "1"): "no pictures",
        ("sample", "-m", "tiny-ldm", "--like", "good.png"): "does not say how it was made",
        ("sample", "-m", "tiny-ldm", "--prompts", "gone.txt"): "gone.txt",
    }
    for arguments, message in cases.items():
        code, said = failure(capsys, *arguments)
        assert (code, message in said) == (3, True), (arguments, code, said)


def test_errors_of_models(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray((models / "tiny-vae.safetensors").read_bytes())
    Path("cut.safetensors").write_bytes(data[:-4])
    Path("noise.safetensors").write_bytes(os.urandom(500))
    Path("old.ckpt").write_bytes(b"PK")
    picture(Path("a.png"))
    cases = {
        "tiny-va": 'did you mean "tiny-vae"',
        "./gone.safetensors": "no such model file",
        "./cut.safetensors": "cut off or damaged",
        "./noise.safetensors": "safetensors",
        "./old.ckpt": "pickle",
    }
    for name, message in cases.items():
        code, said = failure(capsys, "encode", "a.png", "-m", name)
        assert (code, message in said) == (4, True), (name, code, said)


def test_a_flipped_bit_in_a_shipped_file_is_refused(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from genctl import hub

    shipped = tmp_path / "weights"
    shipped.mkdir()
    data = bytearray((models / "tiny-vae.safetensors").read_bytes())
    sha256 = hub.files.file_sha256(models / "tiny-vae.safetensors")
    data[-100] ^= 1
    (shipped / "tiny-vae.safetensors").write_bytes(data)
    index = {"tiny-vae": {"file": "tiny-vae.safetensors", "kind": "model", "sha256": sha256}}
    (shipped / "index.json").write_text(json.dumps(index))
    monkeypatch.setattr(hub, "weights_folder", lambda: shipped)
    picture(Path("a.png"))
    code, said = failure(capsys, "encode", "a.png", "-m", "tiny-vae")
    assert (code, "damaged" in said) == (4, True), said


def test_existing_files_are_kept_unless_forced(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(Path("a.png"))
    before = Path("a.png").read_bytes()
    code, said = failure(capsys, *SAMPLE, "-o", "a.png")
    assert (code, "-f replaces it" in said) == (2, True)
    assert Path("a.png").read_bytes() == before
    assert execute([*SAMPLE, "-o", "a.png", "-f"]) == 0
    assert Path("a.png").read_bytes() != before


def test_a_fault_is_one_line_and_debug_shows_more(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("genctl.cli.shared.load", lambda *_: 1 / 0)
    code, said = failure(capsys, *SAMPLE)
    assert (code, "fault of genctl: ZeroDivisionError" in said) == (1, True)
    execute([*SAMPLE, "--debug"])
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_while_the_commands_are_imported(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from genctl.__main__ import run; run()"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (made.returncode, made.stdout, made.stderr) == (130, "", "genctl: interrupted\n")


# without torch -------------------------------------------------------------------------------------------------------
def test_light_commands_do_not_import_torch(models: Path) -> None:
    picture(Path("a.png"))
    light = [["--help"], ["--version"], ["sample", "--help"], ["train", "--help"], ["models"], ["info", "tiny-vae"],
             ["info", "a.png"], ["smaple"], ["sample", "--steps", "x"], ["sample", "-m", "nothing"],
             ["sample", "-m", "tiny-vae"]]  # fmt: skip
    assert imported(light, ["torch"]) == []


def test_drawing_does_not_import_torchs_compiler(models: Path) -> None:
    """It takes half a second, and comes with little: torch.randn on no device at all, for one."""
    picture(Path("a.png"))
    work = [["sample", "-m", "tiny-ldm", "-p", "cat", "-o", "1.png"], ["sample", "-m", "tiny-rf", "-o", "2.png"],
            ["encode", "a.png", "-m", "tiny-vae"], ["decode", "a.safetensors", "-o", "b.png"],
            ["interpolate", "a.png", "b.png", "-m", "tiny-vae", "--frames", "2", "-o", "c.png"]]  # fmt: skip
    assert imported(work, ["torch._dynamo", "sympy"]) == []
    assert Path("c.png").exists()


def imported(commands: list[list[str]], modules: list[str]) -> list[str]:
    """The first of the commands, run one after the other in one process, that imports one of the modules."""
    code = f"""import sys; from genctl.cli.main import execute
for one in {commands!r}:
    execute(one)
    if set(sys.modules) & set({modules!r}): print("IMPORTED", *one)"""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-400:]
    return [line for line in made.stdout.splitlines() if line.startswith("IMPORTED")][:1]


def test_models_lists_what_can_be_named(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["models", "--json"]) == 0
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["tiny-ldm"]["family"] == "ldm"
    assert "text" in rows["tiny-ldm"]["can"]
    assert execute(["models"]) == 0
    assert "tiny-vae" in capsys.readouterr().out


OPTIONS = Path(__file__).parent / "options.txt"


def test_the_command_line_is_what_the_list_says() -> None:
    """New options are added on purpose: change options.txt in the same commit."""
    import typer

    from genctl.cli.main import app

    command = typer.main.get_command(app())
    lines = []
    for name, sub in sorted(command.commands.items()):  # type: ignore[attr-defined]
        for group, one in sorted(getattr(sub, "commands", {"": sub}).items()):
            flags = sorted({flag for parameter in one.params for flag in getattr(parameter, "opts", [])})
            lines.append(f"{f'{name} {group}'.strip()}: {' '.join(flags)}")
    assert lines == OPTIONS.read_text().splitlines()


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_numbers_that_are_none_are_refused(models: Path, capsys: pytest.CaptureFixture[str], value: str) -> None:
    for command in (("sample", "-p", "cat"), ("interpolate", "--seeds", "1,2", "-p", "cat")):
        code, said = failure(capsys, *command, "--model", "tiny-ldm", "--cfg", value)
        assert (code, f"--cfg {value}: wants a finite number" in said) == (
            2, True
        )  # fmt: skip
    code, said = failure(capsys, "train", str(models), "--set", f"train.learning_rate={value}")
    assert (code, "train.learning_rate" in said) == (2, True)


def test_keys_that_a_prompt_line_cannot_hold_are_named(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.txt").write_text('{"prompt": "dog"}\n{"prompt": "dog", "cgf": 2}\n')
    code, said = failure(capsys, "sample", "--model", "tiny-ldm", "--prompts", "p.txt")
    assert (code, "line 2: unknown key 'cgf' (did you mean \"cfg\"?)" in said) == (3, True)


def test_like_refuses_what_is_no_single_drawing(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        execute(
            ["interpolate", "--model", "tiny-ldm", "--seeds", "1,2", "--frames", "2", "--steps", "1", "-o", "w.png"]
        )
        == 0
    )
    capsys.readouterr()
    code, said = failure(capsys, "sample", "--like", "w.png")
    assert (code, "no single drawing" in said) == (3, True)
    write_picture(Path("old.png"), Image.new("RGB", (8, 8)), {"model": "tiny-ldm", "seed": 1, "count": 4})
    code, said = failure(capsys, "sample", "--like", "old.png")
    assert (code, "a grid of 4, which does not say of what" in said) == (3, True)


# models by name ------------------------------------------------------------------------------------------------------
@pytest.fixture
def shipped(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small models as if they were shipped, beside a runs/tiny-vae of one's own."""
    from genctl import hub

    folder = tmp_path / "weights"
    shutil.copytree(models, folder)
    index = {path.stem: {"file": path.name, "sha256": hub.files.file_sha256(path)} for path in folder.iterdir()}
    index["minilm"] = hub.index()["minilm"]
    (folder / "minilm.safetensors").symlink_to(hub.weights_folder() / "minilm.safetensors")
    (folder / "index.json").write_text(json.dumps(index))
    monkeypatch.setattr(hub, "weights_folder", lambda: folder)
    monkeypatch.setenv("GENCTL_MODELS", "runs")  # which is searched anyway, and listed once
    Path("runs/tiny-vae").mkdir(parents=True)
    shutil.copy(models / "tiny-vae.safetensors", "runs/tiny-vae/model.safetensors")
    return folder


def test_a_model_of_ones_own_with_a_shipped_name(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["models", "--json"]) == 0
    rows = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    shipped_ones = (path.stem for path in shipped.glob("tiny-*.safetensors"))
    assert sorted(rows) == sorted(["runs/tiny-vae", *shipped_ones])
    assert "tiny-vae" in rows
    picture(Path("a.png"))
    remark = "tiny-vae: the shipped model; your own is runs/tiny-vae\n"
    for command in (["encode", "a.png", "-o", "b.safetensors", "--model"], ["info"]):
        assert execute([*command, "tiny-vae"]) == 0
        assert capsys.readouterr().err == remark
    for command in (["encode", "a.png", "--model", "runs/tiny-vae"], [*SAMPLE, "-q"], ["info", "tiny-ldm"]):
        assert execute(command) == 0
        assert capsys.readouterr().err == ""


def test_a_damaged_model_file_is_named_by_every_command(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = (shipped / "tiny-vae.safetensors").read_bytes()
    header = good[: int.from_bytes(good[:8], "little") + 8]
    cuts = {"document": header.index(b"genctl") + 12, "key": header.index(b"family"), "tensors": len(good) - 100}
    picture(Path("a.png"))
    for name, place in cuts.items():
        data = bytearray(good)
        data[place] ^= 1
        Path(f"{name}.safetensors").write_bytes(data)
        said = [failure(capsys, "encode", "a.png", "-m", f"./{name}.safetensors")]
        said += [failure(capsys, "info", f"./{name}.safetensors")]
        assert {code for code, _ in said} == {4}, said
        assert all("damaged" in line for _, line in said), said
        (shipped / "tiny-vae.safetensors").write_bytes(data)  # as a shipped one it is known by its hash
        assert failure(capsys, "info", "tiny-vae")[0] == 4


def test_a_codec_is_found_from_the_model_that_wants_it(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from genctl import files

    tensors, header = files.load_tensors(models / "tiny-ldm.safetensors")
    document = header.document
    document["config"]["codec"] = "runs/codec"
    Path("runs/codec").mkdir(parents=True)
    Path("elsewhere").mkdir()
    files.save_tensors(Path("runs/mine/model.safetensors"), dict(tensors), {"genctl": json.dumps(document)})
    shutil.copy(models / "tiny-vae.safetensors", "runs/codec/model.safetensors")
    monkeypatch.chdir("elsewhere")
    draw = ["sample", "--steps", "1", "--seed", "1", "-m"]
    assert execute([*draw, "../runs/mine", "-o", "a.png"]) == 0
    assert execute([*draw, str(tmp_path / "runs/mine"), "-o", "b.png"]) == 0
    assert Image.open("a.png").tobytes() == Image.open("b.png").tobytes()
    capsys.readouterr()
    shutil.move("../runs/codec", "../runs/other")
    assert execute([*draw, "../runs/mine", "-o", "c.png", "-q"]) == 4
    assert "genctl: ../runs/mine: wants the codec 'runs/codec'" in capsys.readouterr().err


def test_a_hub_that_cannot_be_reached_is_said_at_once(models: Path) -> None:
    began = time.monotonic()
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(models / "hf"), "NO_PROXY": "*"}
    environment.pop("HF_HUB_OFFLINE", None)
    made = subprocess.run(
        [sys.executable, "-m", "genctl", "info", "hf://owner/name"], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert made.returncode == 5
    assert made.stderr == "genctl: hf://owner/name: not in the cache, and the hub cannot be reached\n"
    assert time.monotonic() - began < 10


# limits, and options that do nothing --------------------------------------------------------------------------------
def test_what_cannot_be_one_picture_is_refused_early(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    walk = ["interpolate", "--seeds", "1,2", "-m", "tiny-ldm", "--steps", "1"]
    cases = {
        ("sample", "-m", "tiny-ldm", "-n", "1000000000", "--grid"): "-n",
        ("sample", "-m", "tiny-ldm", "-n", "1000001", "-o", "-"): "-n",
        ("sample", "-m", "tiny-ldm", "-n", "100000", "--grid"): "more than 64 megapixels",
        (*walk, "--frames", "1000000000"): "megapixels",
        (*walk, "--frames", "100000", "-o", "a.png"): "at most 64 fit",
        (*walk, "--frames", "2000", "-o", "a.jpg"): "at most 65500; use .png",
    }
    for arguments, message in cases.items():
        code, said = failure(capsys, *arguments)
        assert (code, message in said) == (2, True), (arguments, code, said)
    Path("p.txt").write_text('{"prompt": "cat", "n": 1000000}\ndog\n')
    code, said = failure(capsys, "sample", "-m", "tiny-ldm", "--prompts", "p.txt")
    assert (code, "line 2: more than 1,000,000 pictures" in said) == (3, True)


def test_options_without_effect_are_refused(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(Path("a.png"))
    between = ["interpolate", "a.png", "a.png", "-m", "tiny-vae"]
    cases = {
        (*between, "--cfg", "3"): "--cfg has no effect between pictures",
        (*between, "--steps", "3"): "--steps",
        (*between, "--seed", "0"): "--seed",
        (*between, "-p", "cat"): "--prompt",
        (*between, "--ms", "40", "-o", "a.png", "-f"): "--ms",
        ("interpolate", "--seeds", "1,2", "--seed", "3"): "--seed has no effect with --seeds",
        ("interpolate", "--prompts", "cat", "dog", "-p", "fox"): "--prompt has no effect with --prompts",
        ("interpolate", "--prompts", "--seeds", "1,2"): "one of the three",
        (*between, "--json", "-o", "-"): "--json has no effect with -o -",
        (*SAMPLE, "--json", "-o", "-"): "--json",
        ("encode", "a.png", "-m", "tiny-vae", "--json", "-o", "-"): "--json",
        ("decode", "a.safetensors", "--json", "-o", "-"): "--json",
        ("eval", "tiny-vae", "data", "--cfg", "3"): "--cfg has no effect on a codec",
    }
    for arguments, message in cases.items():
        code, said = failure(capsys, *arguments)
        assert (code, message in said) == (2, True), (arguments, code, said)


def test_a_walk_from_a_picture_of_one_pixel_is_refused(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(Path("dot.png"), (1, 1))
    picture(Path("a.png"))
    code, said = failure(capsys, "interpolate", "dot.png", "a.png", "-m", "tiny-vae")
    assert (code, "dot.png: 1 x 1 pixels" in said) == (3, True)
    assert execute(["interpolate", "a.png", "dot.png", "-m", "tiny-vae", "--frames", "2"]) == 0


def test_a_large_picture_is_announced(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("genctl.cli.shared.LARGE", 60 * 40)
    picture(Path("small.png"))
    picture(Path("large.png"), (60, 40))
    assert execute(["encode", "small.png", "large.png", "-m", "tiny-vae", "-o", "c/"]) == 0
    assert capsys.readouterr().err == "large.png: 60 x 40, 0 megapixels; this takes a while\n"
    assert execute(["decode", "c/large.safetensors", "-o", "b.png"]) == 0
    assert "60 x 40" in capsys.readouterr().err


def test_codes_go_where_the_template_says(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png"):
        picture(Path(name))
    encode = ["encode", "a.png", "b.png", "-m", "tiny-vae", "-o"]
    assert execute([*encode, "x/{i}.safetensors"]) == 0
    assert execute([*encode, "{model}/{prompt}.safetensors"]) == 0
    assert execute([*encode, "both.safetensors"]) == 0  # one document after another
    made = ["x/0.safetensors", "x/1.safetensors", "tiny-vae/a.safetensors", "tiny-vae/b.safetensors",
            "both.safetensors"]  # fmt: skip
    assert capsys.readouterr().out.split() == made
    assert Path(made[4]).read_bytes() == Path(made[0]).read_bytes() + Path(made[1]).read_bytes()
    code, said = failure(capsys, *encode, "{seeed}.safetensors")
    assert (code, 'did you mean "seed"' in said) == (2, True)
    code, said = failure(capsys, "decode", "both.safetensors", "-o", "one.png")
    assert (code, "--grid" in said, "put {i} in it, or give a folder" in said) == (2, False, True)


def test_a_seed_is_announced_where_it_was_drawn_and_used(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.txt").write_text('{"prompt": "cat", "seed": 7}\n')
    Path("some.txt").write_text('{"prompt": "cat", "seed": 7}\ndog\n')
    draw = [*SAMPLE, "--prompts"]
    assert execute([*draw, "own.txt", "-o", "a/"]) == 0
    assert capsys.readouterr().err == ""
    assert execute([*draw, "some.txt", "-o", "b/", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == f"seed {json.loads(out.splitlines()[1])['seed']} for each prompt without one\n"
    assert execute([*draw, "some.txt", "--seed", "3", "-o", "c/"]) == 0
    assert capsys.readouterr().err == ""
