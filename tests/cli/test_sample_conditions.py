"""Classes, composition, guides, variation and inpainting from the command line."""

import json
from pathlib import Path

import pytest
from PIL import Image

from genctl.cli.main import execute

SAMPLE = ["sample", "-q", "--steps", "2"]


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    before = set(Path().rglob("*"))
    code = execute(list(arguments))
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), set(Path().rglob("*"))) == ("", 1, before)
    return code, err


def drawing(name: str, *options: str) -> bytes:
    """The pixels of a picture that is drawn with these options."""
    assert execute([*SAMPLE, *options, "-o", name, "-f"]) == 0
    return Image.open(name).tobytes()


def halves(name: str = "halves.png", size: tuple[int, int] = (32, 32)) -> str:
    """Black on the left, white on the right."""
    image = Image.new("RGB", size, "black")
    image.paste("white", (size[0] // 2, 0, *size))
    image.save(name)
    return name


def test_classes(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    red = drawing("red.png", "-m", "tiny-rf", "--class", "red", "-s", "1")
    assert red != drawing("green.png", "-m", "tiny-rf", "--class", "green", "-s", "1")
    assert red == drawing("again.png", "--like", "red.png")
    capsys.readouterr()
    assert execute(["info", "red.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class"] == "red"
    code, said = failure(capsys, *SAMPLE, "-m", "tiny-rf", "--class", "gren")
    assert code == 2
    assert "no class 'gren' (did you mean \"green\"?); known: green, red" in said
    code, said = failure(capsys, *SAMPLE, "-m", "tiny-rf", "--prompt", "cat")
    assert code == 2
    assert "tiny-rf takes no text condition" in said
    code, said = failure(capsys, *SAMPLE, "-m", "tiny-ldm", "--class", "red")
    assert code == 2
    assert "tiny-ldm takes no class condition" in said
    assert failure(capsys, *SAMPLE, "-m", "tiny-ldm", "--class", "red", "-p", "cat")[0] == 2


def test_classes_from_a_file(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = drawing("red.png", "-m", "tiny-rf", "--class", "red", "-s", "1")
    Path("asked.txt").write_text('red\n{"class": "red", "seed": 1}\n')
    assert execute([*SAMPLE, "-m", "tiny-rf", "--prompts", "asked.txt", "-s", "1", "-o", "out/"]) == 0
    files = capsys.readouterr().out.split()
    assert [Image.open(name).tobytes() for name in files[-2:]] == [alone, alone]
    execute(["info", files[-1], "--json"])
    assert json.loads(capsys.readouterr().out)["class"] == "red"
    code, said = failure(capsys, *SAMPLE, "-m", "tiny-ldm", "--prompts", "asked.txt")
    assert (code, "line 2: tiny-ldm takes no class condition" in said) == (3, True)
    Path("both.txt").write_text('{"class": "red", "prompt": "cat"}\n')
    code, said = failure(capsys, *SAMPLE, "-m", "tiny-ldm", "--prompts", "both.txt")
    assert (code, "line 1: --prompt or --class" in said) == (3, True)


@pytest.mark.parametrize(
    "option", [("--rescale", ".5"), ("--guidance", "apg"), ("--interval", "0,1"), ("--negative", "a")]
)
def test_what_shapes_guidance_is_refused_without_any(
    models: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    code, said = failure(capsys, *SAMPLE, "-m", "tiny-ldm", "-p", "cat", "--cfg", "1", *option)
    assert code == 2
    assert f"{option[0]} has no effect at --cfg 1" in said


def test_rules_of_guidance_change_the_picture_and_are_recorded(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["-m", "tiny-ldm", "-p", "a red cat", "-s", "3", "--cfg", "5"]
    seen = {drawing("cfg.png", *base)}
    for index, options in enumerate((["--guidance", "apg"], ["--guidance", "zero_star"], ["--rescale", "0.7"],
                                     ["--also", "hat:0.5"], ["--also", "hat:-1", "--also", "dog"])):  # fmt: skip
        pixels = drawing(f"{index}.png", *base, *options)
        assert pixels not in seen
        seen.add(pixels)
        assert drawing("again.png", "--like", f"{index}.png") == pixels
    code, said = failure(capsys, *SAMPLE, *base, "--guidance", "agp")
    assert code == 2
    assert 'did you mean "apg"' in said
    assert failure(capsys, *SAMPLE, *base, "--also", "hat:nan")[0] == 2


def test_a_weaker_model_guides(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["-m", "tiny-rf", "--class", "red", "-s", "3", "--interval", "0,1"]
    alone = drawing("alone.png", *base[:-2], "--cfg", "1")
    assert drawing("itself.png", *base, "--cfg", "3", "--guide", "tiny-rf") == alone  # away from itself: nowhere
    code, said = failure(capsys, *SAMPLE, *base, "--guide", "tiny-ldm")
    assert code == 2
    assert "--guide tiny-ldm: a ldm model, not rf" in said
    code, said = failure(capsys, "sample", "--like", "itself.png")
    assert code == 3
    assert "give it with --guide" in said


def test_variation_and_inpainting(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, mask = halves(), halves("mask.png")
    base = ["-m", "tiny-rf", "--class", "red", "-s", "3", "--image", picture]
    near = drawing("near.png", *base, "--strength", "0.05")
    far = drawing("far.png", *base, "--strength", "1")
    distance = [
        sum(abs(a - b) for a, b in zip(pixels, Image.open(picture).tobytes(), strict=True)) for pixels in (near, far)
    ]
    assert distance[0] < distance[1] / 2
    drawing("in.png", *base, "--mask", mask)
    drawn = Image.open("in.png")
    assert set(drawn.crop((0, 0, 16, 32)).get_flattened_data()) == {(0, 0, 0)}  # kept, to the last bit
    assert drawn.crop((16, 0, 32, 32)).tobytes() != Image.open(picture).crop((16, 0, 32, 32)).tobytes()
    code, said = failure(capsys, "sample", "--like", "near.png")
    assert code == 3
    assert "give it with --image" in said
    assert drawing("again.png", "--like", "near.png", "--image", picture) == near
    drawing("latent.png", "-m", "tiny-ldm", "-p", "cat", "--image", picture, "--mask", mask)
    assert set(Image.open("latent.png").crop((0, 0, 16, 32)).get_flattened_data()) == {(0, 0, 0)}
    halves("small.png", (16, 16))
    code, said = failure(capsys, *SAMPLE, *base, "--mask", "small.png")
    assert code == 3
    assert "small.png: is 16x16, the picture 32x32" in said
    code, said = failure(capsys, *SAMPLE, "-m", "tiny-rf", "--strength", "0.5")
    assert code == 2
    assert "--image" in said
    assert failure(capsys, *SAMPLE, *base[:-1], "none.png")[0] == 3


def test_the_optimum_of_a_folder_copies_it(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from helpers import shape_folder

    shape_folder(Path("shapes"), 1)
    base = [*SAMPLE[:2], "-m", "optimal", "--data", "shapes", "-s", "1", "--solver", "dpmpp_2m"]
    assert execute([*base, "-p", "red circle, oil style", "-o", "x.png"]) == 2  # nothing is drawn so
    assert execute([*base, "-p", "red circle, plain style", "-o", "x.png"]) == 0
    assert execute([*base, "-p", "red circle", "-n", "3", "-o", "{i}.png"]) == 0
    real = {
        Image.open(f"shapes/circle-red-{style}-0.png").resize((64, 64), 3).tobytes() for style in ("plain", "outline")
    }
    for index in range(3):
        made = Image.open(f"{index}.png")
        assert made.size == (64, 64)
        apart = [sum(abs(a - b) for a, b in zip(made.tobytes(), one, strict=True)) / len(one) for one in real]
        assert min(apart) < 6
    assert failure(capsys, *SAMPLE, "-m", "optimal")[0] == 2
    assert failure(capsys, *SAMPLE, "-m", "tiny-rf", "--data", "shapes")[0] == 2


def test_another_path_and_grid(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["-m", "tiny-rf", "--class", "red", "-s", "3", "--steps", "4"]  # two steps of beta's are the even ones
    seen = {drawing("own.png", *base)}
    for index, options in enumerate((["--path", "vp"], ["--spacing", "beta"], ["--shift", "3"])):
        pixels = drawing(f"{index}.png", *base, *options)
        assert pixels not in seen
        seen.add(pixels)
        assert drawing("again.png", "--like", f"{index}.png", "--steps", "4") == pixels
    assert failure(capsys, *SAMPLE, *base, "--path", "vq")[0] == 2
    assert failure(capsys, *SAMPLE, *base, "--spacing", "even")[0] == 2
    assert failure(capsys, *SAMPLE, *base, "--shift", "inf")[0] == 2


def test_a_picture_that_lies_of_itself(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from genctl.media.write import encode_picture

    said = {"model": "tiny-rf", "seed": 1, "version": "0"}
    for key, value in (("also", [["hat"]]), ("seed", "1"), ("rescale", "x"), ("guidance_interval", [1]), ("prompt", 3),
                       ("path", 3), ("strength", 5), ("shift", -1), ("guidance_interval", [0.9, 0.1])):  # fmt: skip
        Path("lies.png").write_bytes(encode_picture(Image.new("RGB", (8, 8)), "png", said | {key: value}))
        code, error = failure(capsys, "sample", "--like", "lies.png")
        assert code == 3
        assert "lies.png: says" in error or "lies.png: does not say how" in error


def test_like_asks_for_all_that_a_picture_was_made_of(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, mask, other = halves(), halves("mask.png"), halves("other.png")
    Image.new("RGB", (32, 32), "red").save(other)
    base = ["-m", "tiny-rf", "--class", "red", "-s", "3"]
    made = drawing("made.png", *base, "--image", picture, "--mask", mask)
    code, said = failure(capsys, "sample", "--like", "made.png", "--image", picture)
    assert code == 3
    assert "give it with --mask" in said
    assert drawing("again.png", "--like", "made.png", "--image", picture, "--mask", mask) == made
    capsys.readouterr()
    assert execute(["sample", "--like", "made.png", "--image", other, "--mask", mask, "-o", "else.png"]) == 0
    assert "--image is not what made.png was made with" in capsys.readouterr().err
    exact = drawing("exact.png", *base, "--dtype", "fp32")
    assert drawing("again.png", "--like", "exact.png") == exact
    named = drawing("named.png", "-m", "tiny-ldm", "-p", "cat", "-s", "3", "--negative", "cfg")
    assert drawing("again.png", "--like", "named.png") == named
    from helpers import shape_folder

    shape_folder(Path("shapes"), 1)
    best = drawing("best.png", "-m", "optimal", "--data", "shapes", "-s", "1")
    assert drawing("again.png", "--like", "best.png", "--data", "shapes") == best
    assert failure(capsys, "sample", "--like", "best.png")[0] == 2


@pytest.mark.parametrize(
    ("said", "pair"),
    [("ratio 16:9", ("ratio 16:9", 1.0)), ("ratio 16 : 9", ("ratio 16 : 9", 1.0)), ("16:9 ", ("16:9 ", 1.0)),
     ("at 10:30", ("at 10:30", 1.0)), ("hat:2", ("hat", 2.0)), ("hat: 0.5", ("hat", 0.5)), ("a:b", ("a:b", 1.0))],
)  # fmt: skip
def test_a_ratio_is_text(said: str, pair: tuple[str, float]) -> None:
    from genctl.asked import every_option

    assert every_option()["also"].said((said,)) == (pair,)
