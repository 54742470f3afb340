"""examples: sets joined into one, crops of photographs, a codec made deeper."""

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers import shape_folder
from PIL import Image

from genctl import files
from genctl.data.pictures import DataConfig, load
from genctl.families.saved import load as load_model
from genctl.families.vae import VAE

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def module(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(script.replace("/", "_").removesuffix(".py"), EXAMPLES / script)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_joined_sets_keep_their_splits_and_weigh_as_asked(tmp_path: Path) -> None:
    for name, colour in (("a", "red"), ("b", "blue")):
        rows = []
        for index in range(4):
            path = tmp_path / name / "inner" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), colour).save(path)
            split = "test" if index == 3 else "train"
            rows.append({"file_name": f"inner/{index}.png", "text": f"{colour} {index}", "split": split, "weight": 2.0})
        (tmp_path / name / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "8 pictures of 2 sets" in run("join.py", tmp_path / "both", tmp_path / "a", f"{tmp_path / 'b'}:0.5")
    pictures = load(tmp_path / "both", 32, DataConfig())
    assert len(pictures) == 8
    assert sum(entry.held_out for entry in pictures.entries) == 2
    assert sorted({(entry.captions[0][:3], entry.weight) for entry in pictures.entries}) == [("blu", 1.0), ("red", 2.0)]


def test_joined_sets_name_the_makers_of_all_of_them_once(tmp_path: Path) -> None:
    for name, said in (("a", "- by A\n"), ("b", "- by B\n"), ("c", "- by A\n"), ("d", None)):
        shape_folder(tmp_path / name, copies=1)
        if said is not None:
            (tmp_path / name / "ATTRIBUTION.md").write_text(said)
    run("join.py", tmp_path / "joined", *(tmp_path / name for name in "abcd"))
    pictures = load(tmp_path / "joined", 32, DataConfig())
    assert pictures.attribution.split("\n") == ["- by A", "", "- by B", ""]
    run("join.py", tmp_path / "silent", tmp_path / "d")
    assert not (tmp_path / "silent" / "ATTRIBUTION.md").exists()


def one_picture(folder: Path, colour: str, **said: object) -> Path:
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8), colour).save(folder / "1.png")
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "1.png", "text": colour, **said}) + "\n")
    return folder


def test_sets_of_one_name_are_refused_and_their_pictures_left_alone(tmp_path: Path) -> None:
    ours, theirs = one_picture(tmp_path / "a" / "set", "red"), one_picture(tmp_path / "b" / "set", "blue")
    before = (ours / "1.png").read_bytes()
    with pytest.raises(subprocess.CalledProcessError) as error:
        run("join.py", tmp_path / "joined", ours, theirs)
    assert "two sets have one name" in error.value.stderr
    assert (ours / "1.png").read_bytes() == before
    assert not (tmp_path / "joined").exists()


def test_a_picture_that_a_table_names_twice_is_joined(tmp_path: Path) -> None:
    ours = one_picture(tmp_path / "a", "red")
    table = (ours / "metadata.jsonl").read_text()
    (ours / "metadata.jsonl").write_text(table + "\n" + table.replace("red", "a\u2028b"))  # no end of a line
    assert "2 pictures of 1 sets" in run("join.py", tmp_path / "joined", ours)
    rows = [json.loads(line) for line in (tmp_path / "joined" / "metadata.jsonl").read_text().split("\n") if line]
    assert [row["text"] for row in rows] == ["red", "a\u2028b"]


def test_what_one_set_holds_out_all_do(tmp_path: Path) -> None:
    cat = {"codepoint": "1f431", "style": "3d"}
    clips = one_picture(tmp_path / "clips", "red", split="test", **cat)
    stills = one_picture(tmp_path / "stills", "red", split="train", family_split="train", **cat)
    others = one_picture(tmp_path / "others", "blue", split="train", codepoint="1f431", style="noto")
    plain = one_picture(tmp_path / "plain", "blue", split="train")
    run("join.py", tmp_path / "joined", clips, stills, others, plain)
    lines = (tmp_path / "joined" / "metadata.jsonl").read_text().splitlines()
    assert [json.loads(line)["split"] for line in lines] == ["test", "test", "train", "train"]
    assert json.loads(lines[1])["family_split"] == "train"


def test_the_weight_after_a_folders_name() -> None:
    named = module("join.py").named
    assert named("data/photos:2") == (Path("data/photos"), 2.0)
    assert named("data/photos") == (Path("data/photos"), 1.0)
    assert named("C:\\data\\photos") == (Path("C:\\data\\photos"), 1.0)


def test_crops_lie_within_the_photograph_at_all_scales() -> None:
    build = module("photos/build.py")
    ramp = Image.linear_gradient("L").resize((640, 400)).convert("RGB")
    spans = []
    for index in range(40):
        made = build.crop(ramp, random.Random(index))
        assert made.size == (128, 128)
        low, high = made.convert("L").getextrema()
        spans.append((high - low) / 255)  # of the height that is seen
    assert 0.25 < min(spans) < 0.4
    assert 0.8 < max(spans) <= 1


def test_a_deeper_codec_has_the_same_codes_and_pictures(models: Path, tmp_path: Path) -> None:
    old = load_model("tiny-vae")
    assert isinstance(old, VAE)
    more = [
        [count + 1 for count in blocks] for blocks in (old.config.net.encoder_blocks, old.config.net.decoder_blocks)
    ]
    source = models / "tiny-vae.safetensors"
    run("weights/deepen.py", source, "--encoder", *more[0], "--decoder", *more[1], "-o", tmp_path / "deep")
    new = load_model(str(tmp_path / "deep"))
    assert isinstance(new, VAE)
    assert sum(p.numel() for p in new.parameters()) > sum(p.numel() for p in old.parameters())
    pictures = load(shape_folder(tmp_path / "data", 1), 32, DataConfig()).pixels[:3].float() / 127.5 - 1
    codes = old.encode(pictures)
    assert torch.allclose(new.encode(pictures), codes, atol=0.02)  # both are stored in fp16
    assert torch.allclose(new.decode(codes), old.decode(codes), atol=0.02)
    fewer = [0] * len(more[0])
    with pytest.raises(subprocess.CalledProcessError):
        run("weights/deepen.py", source, "--encoder", *fewer, "--decoder", *more[1], "-o", tmp_path / "less")


def test_a_student_is_carried_over_to_what_its_teacher_has_learnt_since(tmp_path: Path) -> None:
    """What both have moves as the teacher did, what only the student has stays; the header names the new teacher."""

    def write(name: str, document: dict[str, object], **tensors: torch.Tensor) -> Path:
        files.save_tensors(tmp_path / name, tensors, {"genctl": json.dumps({"family": "ldm", **document})})
        return tmp_path / name

    a, b, c = torch.randn(3, 2, 4)
    then = write("then.safetensors", {}, w=a)
    now = write("now.safetensors", {}, w=b)
    other = write("other.safetensors", {}, w=c)
    student = write(
        "student.safetensors", {"teacher": {"name": "t", "sha256": files.tensors_sha256({"w": a})}},
        w=c.half(), scale=c,
    )  # fmt: skip
    run("weights/rebase.py", student, "--then", then, "--now", now, "-o", tmp_path / "out")
    moved, header = files.load_tensors(tmp_path / "out" / "model.safetensors")
    torch.testing.assert_close(moved["w"], (c.half().float() + b - a).half(), rtol=0, atol=0)
    assert torch.equal(moved["scale"], c)
    assert header.document["teacher"] == {"name": "t", "sha256": files.tensors_sha256({"w": b})}
    with pytest.raises(subprocess.CalledProcessError):
        run("weights/rebase.py", student, "--then", other, "--now", now, "-o", tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
