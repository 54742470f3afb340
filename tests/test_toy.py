"""Room for every family: tests/toy.py is registered as a row, and every command has it without being edited."""

import json
from pathlib import Path

import pytest
from helpers import draw_shape
from PIL import Image

import genctl
from genctl.cli.main import execute
from genctl.errors import UsageError
from genctl.families import registry

TOY = registry.Row("toy:Toy", "toy:ToyOptions")


@pytest.fixture
def toy(models: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The trained toy as runs/toy, registered for the test."""
    monkeypatch.setitem(registry.REGISTRY, "toy", TOY)
    for colour in ("red", "blue"):
        Path("data", colour).mkdir(parents=True)
        for copy in range(4):
            draw_shape("square", colour, "plain", shift=copy).save(f"data/{colour}/{copy}.png")
    more = ["--set", "train.learning_rate=0.1", "--set", "train.batch=8", "--set", "train.warmup=1"]
    assert execute(["train", "data", "--model", "toy", "-o", "runs/toy", "--steps", "60", *more, "-q"]) == 0
    return "runs/toy"


def colour(path: str) -> tuple[int, int, int]:
    return Image.open(path).convert("RGB").getpixel((8, 8))  # type: ignore[return-value]


def test_a_new_family_is_drawn_by_flag_line_like_and_python(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["sample", "--model", toy, "--seed", "1"]
    capsys.readouterr()
    assert execute([*base, "--class", "red", "--warmth", "-0.5", "--json", "-o", "flag.png"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["path"], said["class"], said["seed"], said["warmth"]) == ("flag.png", "red", 1, -0.5)
    assert (said["model"], said["size"], len(said["sha256"])) == ("toy", "16x16", 64)
    Path("lines.txt").write_text('{"class": "red", "warmth": -0.5}\nblue\n')
    assert execute([*base, "--prompts", "lines.txt", "-o", "line-{i}-{warmth}.png"]) == 0
    assert execute(["sample", "--like", "flag.png", "--model", toy, "-o", "like.png"]) == 0
    drawn = genctl.load(toy).draw(class_name="red", seed=1, warmth=-0.5)
    assert colour("flag.png") == colour("line-0--0.5.png") == colour("like.png") == drawn[0].getpixel((8, 8))
    assert drawn[0].document == {key: value for key, value in said.items() if key != "path"}
    execute([*base, "--class", "red", "-o", "plain.png"])
    red, blue = colour("plain.png"), colour("line-1-0.png")
    assert red[0] > red[2]
    assert blue[2] > blue[0]  # it learnt its classes
    assert colour("flag.png")[0] < red[0]  # and has its option


def test_a_new_family_is_swept_and_listed(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sample", "--model", toy, "--class", "red", "--warmth", "-1,0,1", "--seeds", "1,2"]
    capsys.readouterr()
    assert execute([*command, "--grid", "--json", "-o", "sheet.png"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sheet"]["row_labels"] == ["warmth -1", "warmth 0", "warmth 1"]
    assert execute([*command, "-o", "out/"]) == 0
    names = capsys.readouterr().out.split()
    assert names[0] == "out/red-1-warmth-1.png"
    assert len(names) == 6
    assert execute(["models", "--json"]) == 0
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert (rows["toy"]["family"], rows["toy"]["can"]) == ("toy", ["class", "sample"])
    assert execute(["sample", "--model", toy, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--warmth" in shown
    assert "--solver" not in shown  # which it does not take
    assert execute(["sample", "--model", "tiny-ldm", "--help"]) == 0
    assert "--warmth" not in capsys.readouterr().out


def test_what_a_new_family_does_not_take_is_refused(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["sample", "--model", toy, "--seed", "1", "-o", "x.png"]
    for arguments, code, said in (
        (
            [*base, "--class", "red", "--steps", "3"],
            2,
            "--steps is for ldm, video, rf, optimal; runs/toy takes --warmth",
        ),
        ([*base, "--class", "red", "--warmth", "2"], 2, "--warmth 2: wants a finite number from -1 to 1"),
        ([*base, "-p", "cat"], 2, "runs/toy takes no text condition"),
        ([*base, "--class", "green"], 2, "no class 'green'"),
        ([*base, "--class", "red", "--size", "32x16"], 2, "--size 32x16: runs/toy draws 16x16 only"),
        (
            ["sample", "--model", "tiny-ldm", "-p", "cat", "--warmth", "1"],
            2,
            "--warmth is for toy; tiny-ldm takes --cfg",
        ),
        (["encode", "x.png", "--model", toy], 2, "a toy model (runs/toy) cannot encode"),
        (["distill", "--model", toy], 2, "is no flow"),
    ):
        assert execute(arguments) == code, arguments
        assert said in capsys.readouterr().err, arguments
        assert not Path("x.png").exists()
    with pytest.raises(UsageError, match="takes --warmth"):
        genctl.load(toy).draw(class_name="red", steps=3)


def test_every_row_of_the_registry_is_what_it_says() -> None:
    for name in registry.REGISTRY:
        cls = registry.family_class(name)
        assert cls.name == name
        assert cls.Options is registry.options_class(name)
        assert ("sample" in cls.can) == bool(registry.REGISTRY[name].options)
