"""The Python face: the README's own lines are run, and pictures know how they were made wherever they are saved."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import genctl
from genctl.cli.main import execute
from genctl.errors import ModelError, UsageError
from genctl.media.provenance import read_provenance

README = Path(__file__).parents[1] / "README.md"


def test_importing_it_takes_no_torch() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import genctl; genctl.models(); print(genctl.__version__)"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert done.stdout.strip() == genctl.__version__
    assert not re.search(r"\| +(torch|typer|rich|PIL)\b", done.stderr)


def test_the_readmes_python_runs(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small model under the name of the shipped one, and a training of two steps."""
    section = README.read_text().split("## From Python")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    code = "\n".join(blocks)
    assert code.count("\n") >= 8
    own, train = genctl.load, genctl.train
    monkeypatch.setattr(genctl, "load", lambda name="ldm": own({"ldm": "tiny-ldm", "vae": "tiny-vae"}.get(name, name)))

    def short(data: str, model: str, output: str, minutes: float, **more: object) -> Path:
        settings = {"model": {"codec": "tiny-vae"}}
        return train("data", model, output, preset="tiny", steps=2, settings=settings)

    monkeypatch.setattr(genctl, "train", short, raising=False)
    from helpers import shape_folder

    shape_folder(Path("data"), 1)
    monkeypatch.chdir(Path())
    names: dict[str, object] = {}
    exec(compile(code, str(README), "exec"), names)
    assert Path("cat.png").is_file()
    pictures = names["pictures"]
    assert isinstance(pictures, genctl.Pictures)
    assert len(pictures) == 4


def test_python_draws_what_the_command_line_draws(models: Path) -> None:
    assert (
        execute(["sample", "-m", "tiny-ldm", "-p", "cat", "-n", "3", "-s", "5", "--cfg", "2", "--steps", "2", "-q"])
        == 0
    )
    pictures = genctl.load("tiny-ldm").draw("cat", n=3, seed=5, cfg=2, steps=2)
    for index, picture in enumerate(pictures):
        picture.save(f"{index}.png")
        assert Path(f"{index}.png").read_bytes() == Path(f"cat-{5 + index}.png").read_bytes()
    assert pictures[1].document["seed"] == 6
    both = genctl.load("tiny-ldm").draw(["cat", "dog"], n=2, seed=5, cfg=2, steps=2)
    assert [picture.document["prompt"] for picture in both] == ["cat", "cat", "dog", "dog"]
    assert both[0].tobytes() == pictures[0].tobytes()


def test_a_picture_carries_its_document_into_every_format(models: Path, tmp_path: Path) -> None:
    (picture,) = genctl.load("tiny-rf").draw(class_name="red", seed=3, steps=1)
    for form in ("png", "webp", "jpeg", "gif"):
        out = io.BytesIO()
        picture.save(out, form)
        assert read_provenance(out.getvalue()) == picture.document
        picture.save(tmp_path / f"a.{form}")
        assert genctl.info(tmp_path / f"a.{form}") == picture.document
    picture.save(tmp_path / "bare.png", genctl=False)
    assert "made_by" in genctl.info(tmp_path / "bare.png")
    picture.save(tmp_path / "a.bmp", "bmp")  # a format that holds no such thing
    assert Image.open(tmp_path / "a.bmp").tobytes() == picture.tobytes()
    assert picture.copy().tobytes() == picture.tobytes()


def test_a_callback_sees_each_step(models: Path) -> None:
    seen = []
    pictures = genctl.load("tiny-ldm").draw(
        "cat", n=3, seed=1, steps=4, batch=2, callback=lambda *event: seen.append(event)
    )
    assert [event[:3] for event in seen] == [(0, 1, 4), (0, 2, 4), (0, 3, 4), (2, 1, 4), (2, 2, 4), (2, 3, 4)]
    assert seen[0][3].size == pictures[0].size
    assert seen[0][3].tobytes() != pictures[0].tobytes()


def test_a_notebook_shows_results(models: Path) -> None:
    pictures = genctl.load("tiny-ldm").draw("cat", n=4, seed=1, steps=1)
    shown = Image.open(io.BytesIO(pictures._repr_png_() or b""))
    assert shown.size == (66, 66)
    assert pictures[0]._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"  # type: ignore[index]
    assert "tiny-ldm" in repr(genctl.load("tiny-ldm"))
    assert genctl.Pictures()._repr_png_() is None
    pictures.save("sheet.png")
    assert [one["seed"] for one in genctl.info("sheet.png")["pictures"]] == [1, 2, 3, 4]
    assert execute(["sample", "--like", "sheet.png", "-o", "again.png"]) == 0
    assert Path("again.png").read_bytes() == Path("sheet.png").read_bytes()


def test_codes_and_walks(models: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    codec = genctl.load("tiny-vae")
    codes = codec.encode(tmp_path / "a.png")
    codes.save(tmp_path / "a.safetensors")
    assert execute(["encode", str(tmp_path / "a.png"), "-m", "tiny-vae", "-o", str(tmp_path / "b.safetensors")]) == 0
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert codec.decode(codes).size == (30, 20)
    walk = codec.interpolate(tmp_path / "a.png", Image.new("RGB", (30, 20), "blue"), frames=3)
    assert [picture.size for picture in walk] == [(30, 20)] * 3
    walk.save(tmp_path / "walk.gif")
    assert Image.open(tmp_path / "walk.gif").n_frames == 3  # type: ignore[attr-defined]
    model = genctl.load("tiny-ldm")
    assert execute(["interpolate", "-m", "tiny-ldm", "--prompts", "cat", "dog", "--frames", "3", "--steps", "2",
                    "--negative", "fox", "-o", str(tmp_path / "f-{i}.png")]) == 0  # fmt: skip
    frames = model.interpolate(prompts=["cat", "dog"], frames=3, steps=2, negative="fox")
    for index, frame in enumerate(frames):
        assert frame.tobytes() == Image.open(tmp_path / f"f-{index}.png").tobytes()
    assert len(model.interpolate(seeds=[1, 2], frames=2, steps=1)) == 2


def test_changes_of_a_picture(models: Path) -> None:
    model, image = genctl.load("tiny-rf"), Image.new("RGB", (32, 32), "red")
    mask = Image.new("L", (32, 32), 0)
    mask.paste(255, (0, 0, 16, 32))
    (made,) = model.draw(class_name="red", seed=1, steps=2, image=image, mask=mask)
    assert made.crop((16, 0, 32, 32)).tobytes() == image.crop((16, 0, 32, 32)).tobytes()
    assert made.document["strength"] == 1.0
    assert len(made.document["mask"]) == 16


def test_errors(models: Path) -> None:
    model = genctl.load("tiny-ldm")
    for asked, said in (({"cgf": 2}, 'unknown key \'cgf\' .did you mean "cfg"'), ({"cfg": "x"}, "--cfg .x.: wants"),
                        ({"class_name": "red"}, "--prompt or --class"), ({"size": (30, 32)}, "multiples of 8"),
                        ({"strength": 0.5}, "need the picture")):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            model.draw("cat", **asked)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cannot sample"):
        genctl.load("tiny-vae").draw("cat")
    with pytest.raises(ModelError, match="did you mean"):
        genctl.load("tiny-ldn")
    with pytest.raises(UsageError, match="two ends or more"):
        model.interpolate(prompts=["cat"])
    with pytest.raises(AttributeError):
        genctl.nothing  # noqa: B018
    with pytest.warns(UserWarning, match="prompt cut"):
        model.draw("x " * 100, steps=1)


def test_training_and_distilling_from_python(models: Path) -> None:
    from helpers import shape_folder

    said, rows = [], []
    data = shape_folder(Path("data"), 1)
    made = genctl.train(data, "rf", "runs/rf", preset="tiny", steps=2, report=rows.append, remark=said.append,
                        settings={"train": {"log_steps": 1}, "model": {"condition": "none"}})  # fmt: skip
    assert made == Path("runs/rf/model.safetensors")
    assert [row["step"] for row in rows if "loss" in row] == [1, 2]
    assert any("data: " in line for line in said)
    before = made.read_bytes()
    again = {"preset": "tiny", "settings": {"train": {"log_steps": 1}, "model": {"condition": "none"}}}
    assert genctl.train(data, "rf", "runs/rf", steps=2, **again).read_bytes() == before  # resumed, and done already
    small = {"train": {"batch": 2}}
    student = genctl.distill("runs/rf", 2, "runs/fast", method="reflow", pairs=2, updates=1, settings=small)
    assert len(genctl.load(str(student)).draw(n=2, seed=1)) == 2
    with pytest.raises(UsageError, match="not one of vae, vq, clipvae, ldm, video, rf"):
        genctl.train(data, "optimal", "runs/x", steps=1)
    with pytest.raises(UsageError, match="section modle"):
        genctl.train(data, "rf", "runs/x", steps=1, settings={"modle": {}})
    assert not Path("runs/x").exists()


def test_odd_use(models: Path, tmp_path: Path) -> None:
    import copy
    import pickle

    model = genctl.load(models / "tiny-ldm.safetensors")  # a Path
    for asked in ({"n": 0}, {"n": 1.5}, {"seed": -1}, {"seed": 2**70}, {"seed": "1"}, {"batch": 0}, {"image": b"x"},
                  {"guide": 5}, {"guide": genctl.load("tiny-rf"), "prompt": "cat"}):  # fmt: skip
        with pytest.raises(UsageError):
            model.draw(**({"steps": 1} | asked))  # type: ignore[arg-type]
    with pytest.raises(genctl.errors.InputError):
        model.draw(image=Image.new("F", (8, 8)), steps=1)
    for frames in (0, 1):
        with pytest.raises(UsageError, match="frames"):
            model.interpolate(seeds=[1, 2], frames=frames)
    with pytest.raises(UsageError, match="takes no"):
        model.interpolate(seeds=[1, 2], size=64)
    pictures = model.draw(None, n=3, seed=1, steps=1, guide=model)
    assert isinstance(pictures[:2], genctl.Pictures)
    with pytest.raises(UsageError):
        pictures[:0].sheet()
    for again in (copy.deepcopy(pictures[0]), pickle.loads(pickle.dumps(pictures[0]))):
        assert again.document == pictures[0].document
        again.save(tmp_path / "a.jpg", "jpg")
        assert genctl.info(tmp_path / "a.jpg") == pictures[0].document
    with (tmp_path / "b.jpg").open("wb") as file:
        pictures[0].save(file)
    assert Image.open(tmp_path / "b.jpg").format == "JPEG"
    pictures[0].save(tmp_path / "c.tiff")
    rgba, grey = Image.new("RGBA", (32, 32), (255, 0, 0, 0)), Image.new("L", (32, 32))
    assert model.draw(image=rgba, strength=0.01, steps=1, seed=1)[0].getpixel((16, 16))
    assert model.draw(image=grey, mask=grey, steps=1, seed=1)


def test_a_latent_flow_pads_a_picture_as_its_codec_does(models: Path) -> None:
    image = Image.new("RGB", (36, 20), "red")  # multiples of the codec's 4, not of 8
    codes = [genctl.load(name).encode(image).values for name in ("tiny-vae", "tiny-ldm")]
    assert codes[0].shape == (2, 5, 9)
    assert codes[0].equal(codes[1])
