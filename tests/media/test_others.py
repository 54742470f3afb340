"""What other tools say in their pictures is shown."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from genctl.describe import describe
from genctl.errors import GenctlError
from genctl.media.others import made_by_others

LINE = "a cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x512, Model: sd15"
NODES = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 20, "cfg": 8.0, "sampler_name": "euler"}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}},
}


def png_with(**texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key.replace("_DASH_", "-"), text)
    out = io.BytesIO()
    Image.new("RGB", (12, 8), "teal").save(out, "PNG", pnginfo=info)
    return out.getvalue()


def with_comment(form: str, comment: bytes) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = comment
    out = io.BytesIO()
    Image.new("RGB", (12, 8), "teal").save(out, form, exif=exif.tobytes())
    return out.getvalue()


def test_a1111_writes_a_line() -> None:
    said = made_by_others(png_with(parameters=LINE))
    assert said["parameters"] == LINE
    assert "A1111" in said["made_by"]


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
@pytest.mark.parametrize("comment", [b"UNICODE\0" + LINE.encode("utf-16-be"), b"UNICODE\0" + LINE.encode("utf-16-le"),
                                     b"ASCII\0\0\0" + LINE.encode()])  # fmt: skip
def test_a1111_in_exif(form: str, comment: bytes) -> None:
    assert made_by_others(with_comment(form, comment))["parameters"] == LINE


def test_comfyui_writes_its_graph() -> None:
    said = made_by_others(png_with(prompt=json.dumps(NODES), workflow="{}"))
    assert said == {"made_by": "ComfyUI", "texts": ["a cat"], "seed": 5, "steps": 20, "cfg": 8.0,
                    "sampler_name": "euler", "ckpt_name": "sd15.safetensors"}  # fmt: skip


def test_invokeai_writes_json() -> None:
    said = made_by_others(png_with(invokeai_metadata=json.dumps({"positive_prompt": "a cat", "seed": 5})))
    assert said == {"made_by": "InvokeAI", "metadata": {"positive_prompt": "a cat", "seed": 5}}


def saved(form: str, exif: dict[int, str], **options: Any) -> bytes:
    made = Image.Exif()
    for tag, text in exif.items():
        made[tag] = text
    out = io.BytesIO()
    Image.new("RGB", (12, 8), "teal").save(out, form, exif=made.tobytes(), **options)
    return out.getvalue()


def test_comfyui_puts_its_graph_into_exif_of_webp() -> None:
    said = made_by_others(saved("WEBP", {0x0110: "prompt:" + json.dumps(NODES), 0x010F: "workflow:{}"}))
    assert (said["made_by"], said["texts"], said["seed"]) == ("ComfyUI", ["a cat"], 5)


@pytest.mark.parametrize(
    ("data", "tool", "texts"),
    [
        (saved("JPEG", {0x010E: "a cat", 0x0131: "Some Tool"}), "Some Tool", {"description": "a cat"}),
        (saved("JPEG", {}, comment=b"drawn by hand"), "another tool", {"comment": "drawn by hand"}),
        (png_with(Dream='"a cat" -s 50 -S 123'), "another tool", {"dream": '"a cat" -s 50 -S 123'}),
        (png_with(prompt="a cat", seed="5"), "another tool", {"prompt": "a cat", "seed": 5}),
        (png_with(Software="NovelAI", Comment='{"steps": 28}'), "NovelAI", {"comment": {"steps": 28}}),
        (png_with(family="ldm", picture="1x1"), "another tool", {"family": "ldm", "picture": "1x1"}),
    ],
)
def test_whatever_texts_there_are_are_shown(data: bytes, tool: str, texts: dict[str, Any]) -> None:
    said = made_by_others(data)
    assert said["made_by"] == tool
    assert said["texts"].items() >= texts.items()
    assert said.keys() == {"made_by", "texts"}  # under a key of their own, so that none stands for what genctl says


def test_json_under_the_name_of_a_line() -> None:
    swarm = {"sui_image_params": {"prompt": "a cat", "seed": 5}}
    assert made_by_others(png_with(parameters=json.dumps(swarm))) == {"made_by": "SwarmUI", "metadata": swarm}
    assert made_by_others(png_with(parameters='{"seed": 5}', fooocus_scheme="fooocus"))["made_by"] == "Fooocus"
    assert made_by_others(saved("JPEG", {}, comment=LINE.encode()))["parameters"] == LINE
    nan = made_by_others(png_with(invokeai_metadata='{"a": NaN}'))
    assert nan["metadata"] == '{"a": NaN}'  # which would be no JSON if it were written again


@pytest.mark.parametrize(
    "texts", [{"prompt": "[1"}, {"prompt": '{"a": 3}'}, {"prompt": "[" * 100_000}, {"parameters": ""},
              {"workflow": "null"},
              {"invokeai_metadata": "[" * 900 + "]" * 900}, {"workflow": "9" * 9999},
              {"prompt": '{"3": {"class_type": 1, "inputs": {"text": []}}}'}]
)  # fmt: skip
def test_odd_texts_are_no_fault(texts: dict[str, str]) -> None:
    assert isinstance(made_by_others(png_with(**texts)), dict)


def test_info_goes_by_what_a_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("no-ending").write_bytes(png_with(parameters=LINE))
    Path("a.jfif").write_bytes(with_comment("JPEG", b""))
    Path("wrong.safetensors").write_bytes(png_with())
    assert describe("no-ending")["parameters"] == LINE
    assert describe("a.jfif") == {"picture": "12x8", "made_by": "not said in the file"}
    assert describe("wrong.safetensors")["picture"] == "12x8"
    Path("text").write_text("hello, this is a text")
    for name in ("text", "~nosuchuser", "x" * 5000, "\0"):
        with pytest.raises(GenctlError):
            describe(name)


def test_info_prints_no_escape_code_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from genctl.cli.main import execute

    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(png_with(parameters="\x1b[31mred\x07 [bold]x[/bold]"))
    assert execute(["info", "a.png"]) == 0
    out: Any = capsys.readouterr()
    assert "\x1b" not in out.out + out.err
    assert "[bold]" in out.out
