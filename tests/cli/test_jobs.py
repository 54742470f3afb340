"""Many pictures by one command: sweeps, sheets, lines of prompts, batches that go on, sizes, a process that stays."""

import io
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import shape_folder
from PIL import Image

from genctl.cli.main import execute
from genctl.media.provenance import read_provenance

SAMPLE = ["sample", "--model", "tiny-ldm", "--steps", "2", "--seed", "1"]


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """The JSON lines of a command that must succeed."""
    capsys.readouterr()
    assert execute([*arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    before = set(Path().rglob("*"))
    capsys.readouterr()
    code = execute(list(arguments))
    out, err = capsys.readouterr()
    assert out == ""
    assert set(Path().rglob("*")) == before
    return code, err


# sweeps and sheets ---------------------------------------------------------------------------------------------------
def test_lists_draw_the_product(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sample", "--seed", "1", "--model", "tiny-ldm", "-p", "cat", "-p", "dog", "--cfg", "1,4"]
    rows = lines(capsys, *command, "--steps", "1,2", "--solver", "euler,heun", "-o", "out/")
    assert len(rows) == 16
    settings = [(row["prompt"], row["guidance_scale"], row["steps"], row["solver"]) for row in rows]
    wanted = [
        (prompt, cfg, steps, solver)
        for prompt in ("cat", "dog") for cfg in (1.0, 4.0) for steps in (1, 2) for solver in ("euler", "heun")
    ]  # fmt: skip
    assert settings == wanted
    assert rows[3]["path"] == "out/cat-1-cfg1-steps2-solverheun.png"
    alone = lines(capsys, *SAMPLE, "-p", "dog", "--cfg", "4", "--solver", "heun", "-o", "alone.png")[0]
    assert Path(alone["path"]).read_bytes() == Path(rows[-1]["path"]).read_bytes()


def test_a_sweep_over_models(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = lines(
        capsys, "sample", "--model", "tiny-ldm,tiny-rf", "--steps", "2", "--seeds", "1,2", "-o", "{model}-{i}.png"
    )
    assert [(row["model"], row["seed"], row["path"]) for row in rows] == [
        ("tiny-ldm", 1, "tiny-ldm-0.png"), ("tiny-ldm", 2, "tiny-ldm-1.png"),
        ("tiny-rf", 1, "tiny-rf-2.png"), ("tiny-rf", 2, "tiny-rf-3.png"),
    ]  # fmt: skip
    code, said = refused(capsys, "sample", "--model", "tiny-ldm,tiny-vae", "-p", "cat")
    assert (code, "a vae model (tiny-vae) cannot sample" in said) == (2, True)


def test_a_sheet_says_all_and_is_repeated(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*SAMPLE[:-2], "-p", "cat", "--cfg", "1,2,4", "--seeds", "5,7", "--grid"]
    (row,) = lines(capsys, *command, "-o", "sheet.png")
    assert row["sheet"] == {
        "columns": 2,
        "row_labels": ["cfg 1", "cfg 2", "cfg 4"],
        "column_labels": ["seed 5", "seed 7"],
    }
    assert row["count"] == 6
    assert row["pictures"][3] == {"guidance_scale": 2.0, "seed": 7}
    assert execute(["sample", "--like", "sheet.png", "-o", "again.png"]) == 0
    assert Path("again.png").read_bytes() == Path("sheet.png").read_bytes()
    assert execute(["sample", "--like", "sheet.png", "-p", "dog", "-o", "dogs.png"]) == 0
    dogs, cats = (read_provenance(Path(name).read_bytes()) for name in ("dogs.png", "sheet.png"))
    assert dogs is not None
    assert cats is not None
    assert dogs["prompt"] == "dog"
    assert dogs["pictures"] == cats["pictures"]


def test_a_sheet_holds_the_pictures_beside_their_labels(models: Path) -> None:
    base = [*SAMPLE[:-2], "-p", "cat", "-q"]
    assert execute([*base, "--cfg", "1,4", "--seeds", "5,7", "--grid", "-o", "sheet.png"]) == 0
    sheet = Image.open("sheet.png").convert("RGB")
    assert execute([*base, "--cfg", "4", "--seed", "5", "-o", "one.png"]) == 0
    one = Image.open("one.png").convert("RGB")
    places = [
        (x, y)
        for x, y in itertools.product(range(sheet.width - 31), range(sheet.height - 31))
        if sheet.crop((x, y, x + 32, y + 32)).tobytes() == one.tobytes()
    ]
    assert len(places) == 1
    x, y = places[0]
    left = sheet.crop((0, y, x - 2, y + 32)).convert("L")
    assert left.getextrema()[0] < 100  # the label, left of the second row
    ink = left.point(lambda value: 255 if value < 200 else 0).getbbox()
    assert ink is not None
    assert ink[0] > 0  # whole, not cut at the sheet's edge


def test_a_sheet_of_lines_is_labelled_by_them(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.txt").write_text("cat\n# a comment\n\n" + '{"prompt": "dog", "cfg": 2, "steps": 1}\n')
    (row,) = lines(capsys, *SAMPLE, "--prompts", "p.txt", "--grid", "-o", "sheet.webp")
    assert row["sheet"]["cell_labels"] == ["cat", "dog"]
    assert row["pictures"][1]["steps"] == 1
    assert execute(["sample", "--like", "sheet.webp", "-o", "again.webp"]) == 0
    assert Path("again.webp").read_bytes() == Path("sheet.webp").read_bytes()


@pytest.mark.parametrize("change", [
    {"pictures": [1]}, {"pictures": []}, {"pictures": [{"seed": "x"}]}, {"pictures": [{"model": "../x/y"}]},
    {"sheet": {"columns": 0}},
])  # fmt: skip
def test_a_sheet_that_lies_of_itself(models: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]) -> None:
    from genctl.media.write import write_picture

    said = {
        "model": "tiny-ldm",
        "steps": 1,
        "count": 2,
        "pictures": [{"seed": 1}, {"seed": 2}],
        "sheet": {"columns": 2},
    }
    write_picture(Path("a.png"), Image.new("RGB", (8, 8)), said | change)
    if "sheet" in change:  # a layout that cannot be: a square one
        assert execute(["sample", "--like", "a.png", "-o", "b.png"]) == 0
        return
    assert refused(capsys, "sample", "--like", "a.png", "-o", "b.png")[0] == 3


def test_a_sweep_that_is_too_large_is_refused(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = ",".join(map(str, range(1, 1001)))
    code, said = refused(capsys, "sample", "-m", "tiny-ldm", "--cfg", many, "--steps", many, "--seeds", "1,2")
    assert (code, "2,000,000 pictures in one call" in said) == (2, True)


# lines ---------------------------------------------------------------------------------------------------------------
def test_lines_take_every_option_of_the_model(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.txt").write_text(
        '\ufeff{"prompt": "cat", "cfg": 2, "steps": 3, "solver": "ddim", "negative_prompt": "dog", "size": "64x32"}\n'
        '{"model": "tiny-rf", "class": "red", "guidance_scale": 3, "num_inference_steps": 1, "seed": 9, "n": 2}\n'
    )  # fmt: skip
    rows = lines(
        capsys, "sample", "-m", "tiny-ldm", "--prompts", "p.txt", "-s", "4", "-o", "{i:03d}-{cfg}-{steps}-{width}.png"
    )
    first, second, third = rows
    assert [row["path"] for row in rows] == ["000-2-3-64.png", "001-3-1-32.png", "002-3-1-32.png"]
    assert (first["solver"], first["negative"], first["size"], first["seed"]) == ("euler", "dog", "64x32", 4)
    assert (second["model"], second["class"], second["seed"], third["seed"]) == ("tiny-rf", "red", 9, 10)
    assert lines(capsys, "sample", "--like", "000-2-3-64.png", "-o", "b.png")[0]["sha256"] == first["sha256"]
    assert Path("b.png").read_bytes() == Path("000-2-3-64.png").read_bytes()


def test_values_of_the_command_line_stand_in_for_lines(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.txt").write_text('cat\n{"prompt": "dog", "steps": 1}\n')
    rows = lines(capsys, *SAMPLE, "--prompts", "p.txt", "--cfg", "1,3", "-o", "out/{i}.png")
    assert [(row["prompt"], row["steps"], row["guidance_scale"]) for row in rows] == [
        ("cat", 2, 1.0), ("cat", 2, 3.0), ("dog", 1, 1.0), ("dog", 1, 3.0)
    ]  # fmt: skip


@pytest.mark.parametrize(("line", "said"), [
    ('{"prompt": "a", "cfg": "x"}', "line 2: --cfg 'x': wants a finite number"),
    ('{"prompt": "a", "solver": "eulr"}', 'did you mean "euler"'),
    ('{"prompt": "a", "steps": 1.5}', "line 2: --steps 1.5: wants a whole number"),
    ('{"prompt": "a", "seed": -1}', "line 2: seed and n are whole numbers"),
    ('{"prompt": 3}', "line 2: --prompt 3: wants a text"),
    ('{"prompt": "a", "size": "30x32"}', "multiples of 8, such as 32x32"),
    ('{"prompt": "a", "model": 3}', "line 2: model is the name of one"),
    ('{"prompt": "a", "model": "tiny-ldn"}', 'did you mean "tiny-ldm"'),
    ("{", "line 2 is not JSON"),
])  # fmt: skip
def test_lines_that_cannot_be_are_named(models: Path, capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    Path("p.txt").write_text(f"cat\n{line}\n")
    code, err = refused(capsys, *SAMPLE, "--prompts", "p.txt")
    assert (code, said in err) == (3, True), err


def test_templates(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = lines(capsys, *SAMPLE, "-p", "a b", "--cfg", "2.5", "-o", "{prompt}_{cfg:.2f}_{solver}_{seed:>04}.png")
    assert rows[0]["path"] == "a-b_2.50_euler_0001.png"
    for template, said in (
        ("{cgf}.png", 'did you mean "cfg"'),
        ("{prompt:04d}.png", "is no format"),
        ("{i:99999999d}.png", "no format"),
    ):
        code, err = refused(capsys, *SAMPLE, "-o", template)
        assert (code, said in err) == (2, True), err


def test_a_stopped_batch_goes_on(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*SAMPLE, "-p", "cat", "-p", "dog", "-n", "2", "-o", "out/", "--skip-existing"]
    rows = lines(capsys, *command)
    kept, gone = Path(rows[0]["path"]), Path(rows[2]["path"])
    before, whole = kept.stat().st_mtime_ns, gone.read_bytes()
    gone.unlink()
    rows = lines(capsys, *command)
    assert [row.get("skipped", False) for row in rows] == [True, True, True, False]
    assert gone.read_bytes() == whole
    assert kept.stat().st_mtime_ns == before
    assert execute(command) == 0
    out, err = capsys.readouterr()
    assert (out, "4 of 4 exist already" in err) == ("", True)
    for arguments in (["-f"], ["-o", "-"]):
        assert refused(capsys, *command[:-3], *arguments, "--skip-existing")[0] == 2
    assert refused(capsys, "sample", "-m", "tiny-ldm", "--skip-existing")[0] == 2  # other names each time


def test_info_of_many_files(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    execute([*SAMPLE, "-p", "cat", "-n", "2", "-o", "out/"])
    rows = lines(capsys, "info", "out/", "tiny-ldm")
    assert [Path(row["path"]).name for row in rows] == ["cat-1.png", "cat-2.png", "tiny-ldm"]
    assert (rows[1]["seed"], rows[2]["family"]) == (2, "ldm")
    Path("empty").mkdir()
    assert refused(capsys, "info", "empty")[0] == 3
    assert execute(["info", "out/cat-1.png", "nowhere.png"]) == 3
    out, err = capsys.readouterr()
    assert "seed: 1" in out
    assert "nowhere.png: no such file" in err


# sizes ---------------------------------------------------------------------------------------------------------------
def test_other_sizes(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = [*SAMPLE, "-p", "cat", "-o"]
    assert execute([*base, "a.png", "--size", "64x32"]) == 0
    assert "trained on pictures of 32x32; at 64x32" in capsys.readouterr().err
    assert Image.open("a.png").size == (64, 32)
    assert execute([*base, "b.png", "-W", "64", "-H", "32"]) == 0
    assert Path("b.png").read_bytes() == Path("a.png").read_bytes()
    capsys.readouterr()
    assert execute([*base, "c.png", "--size", "32"]) == 0
    assert "trained on" not in capsys.readouterr().err
    for wrong, said in (
        (["--size", "60x32"], "multiples of 8, such as 64x32"),
        (["--size", "0x32"], "wants sides of 1 to"),
        (["--size", "4096"], "more than 64 times the 32x32"),
        (["-W", "64"], "--width and --height go together"),
        (["-W", "64", "-H", "64", "--size", "64"], "--width and --height go together"),
    ):
        code, err = refused(capsys, *base, "d.png", *wrong)
        assert (code, said in err) == (2, True), err


def test_a_picture_of_too_many_pixels_is_no_clip(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genctl.asked.MOST_TOGETHER", 10_000)
    code, err = refused(capsys, *SAMPLE, "-p", "cat", "--size", "128", "-o", "a.png")
    assert (code, err) == (2, "genctl: --size 128x128: more than 0 megapixels; draw a smaller one\n")


def test_a_picture_of_any_shape_is_varied_in_its_own(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (200, 100), "red").save("wide.png")
    assert execute([*SAMPLE, "--image", "wide.png", "--strength", "0.01", "-o", "a.png"]) == 0
    assert Image.open("a.png").size == (48, 24)  # of the area that the model was trained on
    assert "cropped" not in capsys.readouterr().err
    assert execute([*SAMPLE, "--image", "wide.png", "--size", "32", "-o", "b.png"]) == 0
    assert "cropped to the proportions of 32x32" in capsys.readouterr().err
    assert execute(["sample", "--like", "a.png", "--image", "wide.png", "-o", "c.png", "-q"]) == 0
    assert Path("c.png").read_bytes() == Path("a.png").read_bytes()


# a process that stays ------------------------------------------------------------------------------------------------
def staying(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "genctl", *SAMPLE, "--prompts", "-", *arguments]
    return subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True, bufsize=1)


def test_each_line_is_drawn_before_the_next_one_comes(models: Path) -> None:
    with staying("--json", "-o", "{prompt}.png") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for prompt in ("cat", "dog"):
            process.stdin.write(prompt + "\n")
            row = json.loads(process.stdout.readline())  # before anything more is said
            assert (row["prompt"], Path(row["path"]).is_file()) == (prompt, True)
        process.stdin.write('{"prompt": "x", "cfg": "y"}\nfox\n')
        assert "wants a finite number" in json.loads(process.stdout.readline())["error"]  # and it goes on
        assert json.loads(process.stdout.readline())["prompt"] == "fox"
        process.stdin.close()
        assert process.wait(60) == 3


def test_the_lines_of_a_pipe_are_those_of_a_file(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.txt").write_text("cat\ndog\n")
    assert execute([*SAMPLE, "--prompts", "p.txt", "-o", "file-{i}.png"]) == 0
    with staying("-o", "pipe-{i}.png") as process:
        out, err = process.communicate("cat\ndog\n")
    assert (out.split(), err) == (["pipe-0.png", "pipe-1.png"], "")
    for i in range(2):
        assert Path(f"pipe-{i}.png").read_bytes() == Path(f"file-{i}.png").read_bytes()


def test_ctrl_c_ends_after_the_picture_in_hand(models: Path) -> None:
    import signal

    with staying(
        "-o", "{prompt}-{i}.png", "--steps", "300", "-n", "2", "--batch", "1", "--progress", "json"
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write("cat\n")
        events = [json.loads(process.stderr.readline()) for _ in range(3)]
        assert events[0] == {"event": "progress", "stage": "step", "step": 1, "of": 300, "picture": 0}
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.split() == ["cat-0.png"]  # whole, and the second not begun
    assert Image.open("cat-0.png").size == (32, 32)
    assert err.splitlines()[-1] == "genctl: interrupted"


def test_a_reader_that_goes_ends_it_quietly(models: Path) -> None:
    with staying("-o", "-") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.write("cat\ndog\n")
        process.stdin.close()
        assert process.wait(60) == 0


def test_progress_as_json_lines(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*SAMPLE, "-n", "2", "--batch", "1", "-o", "{i}.png", "--progress", "json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(row["stage"], row["step"], row["of"]) for row in rows] == [
        ("step", 1, 2), ("draw", 1, 2), ("step", 1, 2), ("draw", 2, 2)
    ]  # fmt: skip
    assert rows[3]["path"] == "1.png"
    assert refused(capsys, *SAMPLE, "--progress", "loud")[0] == 2


def test_pictures_of_a_stream(models: Path) -> None:
    from genctl.media.stream import split_pngs

    with subprocess.Popen(
        [sys.executable, "-m", "genctl", *SAMPLE, "--prompts", "-", "-o", "-"], stdin=-1, stdout=-1
    ) as process:
        out, _ = process.communicate(b"cat\ndog\n")
    assert [Image.open(io.BytesIO(one)).size for one in split_pngs(io.BytesIO(out))] == [(32, 32)] * 2


def test_training_tells_its_progress_as_json_lines(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(shape_folder(Path("data"), 1))
    command = ["train", data, "--model", "rf", "--preset", "tiny", "--steps", "4", "-q"]
    command += ["--set", "train.log_steps=2", "--set", "model.condition=none"]
    assert execute([*command, "-o", "runs/rf", "--progress", "json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {row["event"] for row in rows} == {"progress"}
    said = [(row["stage"], row["step"], row["of"]) for row in rows]
    wanted = [("train", 1, 4), ("train", 2, 4), ("drawing a sheet", 2, 4), ("train", 4, 4), ("saving", 4, 4),
              ("held out", 4, None)]  # fmt: skip
    assert [row for row in said if row in wanted] == wanted  # a slow machine says more between them
    assert rows[0]["loss"] > 0
    student = ["distill", "--model", "runs/rf", "--updates", "1", "--pairs", "2", "--method", "reflow", "-q"]
    assert execute([*student, "-o", "runs/fast", "--set", "train.batch=2", "--progress", "json"]) == 0
    stages = [json.loads(line)["stage"] for line in capsys.readouterr().err.splitlines()]
    assert stages[:2] == ["teacher draws", "train"]


def test_other_tools_names_are_answered(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["train", "data", "--lr", "1e-3"], "here --set train.learning_rate=1e-3"),
        (["train", "data", "--epochs", "3"], "here --steps N or --minutes M"),
        (["distill", "--batch", "3"], "here --set train.batch=32"),
        (["sample", "--guidance-scale", "3"], "here --cfg"),
        (["sample", "--denoising-strength", "0.5"], "here --strength"),
    ):
        code, err = refused(capsys, *arguments)
        assert (code, said in err) == (2, True), err
    assert "--set" not in refused(capsys, "encode", "--batch", "4", "a.png")[1]
    for name in ("DDIM", "Euler a", "DPM++ 2M", "LCM", "Heun"):
        assert execute([*SAMPLE, "--sampler", name, "-o", f"{name}.png", "-q"]) == 0
    Path("p.txt").write_text('{"prompt": "x", "cfg": 2, "guidance_scale": 7}\n')
    code, err = refused(capsys, *SAMPLE, "--prompts", "p.txt")
    assert (code, "--cfg is given twice" in err) == (3, True)


def test_like_goes_on_from_the_pictures_own_seed(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (first,) = lines(capsys, *SAMPLE, "-p", "cat", "-o", "a.png")
    rows = lines(capsys, "sample", "--like", "a.png", "-n", "2", "-o", "b-{i}.png")
    assert [row["seed"] for row in rows] == [first["seed"], first["seed"] + 1]
    assert Path("b-0.png").read_bytes() == Path("a.png").read_bytes()


@pytest.mark.parametrize(("arguments", "said"), [
    (["--cfg", ","], "--cfg ',': wants"), (["--cfg", ""], "--cfg '': wants"),
    (["--cfg", "1,,2"], "--cfg '1,,2': wants"), (["--interval", "0.5"], "--interval 0.5: wants LOW,HIGH"),
    (["--also", "x:1e9"], "--also x:1e9: wants a text and its weight"),
    (["--model", "tiny-ldm,"], "unknown model ''"), (["--size", "1x"], "--size 1x: wants a size"),
])  # fmt: skip
def test_values_that_cannot_be_are_shown_as_they_were_written(
    models: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, err = refused(capsys, *SAMPLE, *arguments)
    assert (code in (2, 4), said in err) == (True, True), err


# found by a review ---------------------------------------------------------------------------------------------------
def test_a_stopped_stream_goes_on(models: Path) -> None:
    Path("p.txt").write_text("cat\ndog\nfox\n")
    assert execute([*SAMPLE, "--prompts", "p.txt", "-o", "{i}.png", "--skip-existing", "-q"]) == 0
    whole = {path.name: path.read_bytes() for path in Path().glob("?.png")}
    assert sorted(whole) == ["0.png", "1.png", "2.png"]
    for name in ("1.png", "2.png"):
        Path(name).unlink()
    with staying("-o", "{i}.png", "--skip-existing") as process:
        out, _ = process.communicate("cat\ndog\nfox\n")
    assert out.split() == ["1.png", "2.png"]
    assert sorted(path.name for path in Path().glob("?.png")) == sorted(whole)


def test_a_line_that_breaks_something_does_not_end_the_others(models: Path) -> None:
    odd = [
        '{"image": 5}',
        '{"guide": {}}',
        '{"cfg": 1%s}' % ("0" * 400),
        '{"image": "a\\u0000b"}',
        '{"mask": []}',
        "[1]",
    ]
    with staying("--json", "-o", "{i}.png") as process:
        out, err = process.communicate("\n".join([*odd, '{"prompt": "\\ud800"}', "cat"]) + "\n")
    rows = [json.loads(line) for line in out.splitlines()]
    assert ["error" in row for row in rows] == [True] * 5 + [False] * 3  # "[1]" is a prompt like any other
    assert "fault of genctl" not in err
    assert process.returncode == 3


def test_a_line_does_not_overwrite_an_earlier_one(models: Path) -> None:
    with staying("--json", "-o", "{prompt}.png", "-f") as process:
        out, _ = process.communicate('cat\n{"prompt": "cat", "cfg": 1}\n')
    assert "an earlier line wrote it" in json.loads(out.splitlines()[1])["error"]


def test_a_large_sheet_keeps_what_it_says(models: Path) -> None:
    from genctl.media.write import encode_picture

    rows = [{"seed": seed, "guidance_scale": 2.0} for seed in range(3000)]
    said = {"model": "ldm", "prompt": "cat", "pictures": rows, "sheet": {"columns": 60}, "count": 3000}
    for form in ("png", "webp", "gif"):
        assert read_provenance(encode_picture(Image.new("RGB", (8, 8)), form, said)) == said
    short = read_provenance(encode_picture(Image.new("RGB", (8, 8)), "jpeg", said))
    assert short == {"model": "ldm", "prompt": "cat", "count": 3000}  # which holds 64 KiB


def test_a_sheet_of_pictures_that_it_does_not_hold_is_not_repeated(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("p.txt").write_text('{"prompt": "cat", "guide": "tiny-ldm", "cfg": 2}\ncat\n')
    assert execute([*SAMPLE, "--prompts", "p.txt", "--grid", "-o", "sheet.png"]) == 0
    code, err = refused(capsys, "sample", "--like", "sheet.png")
    assert (code, "some of its pictures were made with a weaker model" in err) == (3, True)


def test_names_know_the_size_that_is_drawn(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (60, 30), "red").save("i.png")
    (row,) = lines(capsys, *SAMPLE, "--image", "i.png", "-o", "{size}.png")
    assert row["path"] == f"{row['size']}.png" == "48x24.png"


def test_guidance_of_nothing_is_remarked(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*SAMPLE, "--cfg", "9", "-o", "a.png"]) == 0
    assert "--cfg has no effect without a prompt" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", [["--seeds", "9" * 20], ["--seed", str((1 << 62) - 1), "-n", "2"]])
def test_seeds_end_somewhere(models: Path, capsys: pytest.CaptureFixture[str], seeds: list[str]) -> None:
    assert refused(capsys, "sample", "-m", "tiny-ldm", *seeds)[0] == 2


def test_long_labels_take_no_time() -> None:
    from genctl.media.sheet import LONGEST, lines_of, width_of

    found = lines_of("word " * 10_000, (128, 128), 128)
    assert len(found) == 3
    assert found[2].endswith("…")
    assert all(width_of(line, (128, 128)) <= 128 for line in found)
    assert LONGEST < 1000
