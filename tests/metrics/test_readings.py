"""The sentences beside figures say what the figures say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import shape_folder
from torch import Tensor

from genctl.cli.main import execute
from genctl.data.pictures import DataConfig, load
from genctl.metrics import features, readings
from genctl.metrics.bits import png_bits
from genctl.metrics.features import extractor, real_features


def test_a_codec_is_judged_by_both_figures() -> None:
    assert readings.reconstruction(31, 0.03).startswith("good")
    assert readings.reconstruction(31, 0.1).startswith("fair")
    assert readings.reconstruction(15.2, 0.4).startswith("poor")


def test_a_codec_of_clips_is_held_against_its_frames_coded_one_by_one() -> None:
    alone = {"psnr": 24.8, "temporal": 0.0144}
    assert readings.clip_reconstruction({"psnr": 25.3, "temporal": 0.0138}, alone).startswith("good: 0.5 dB more")
    assert readings.clip_reconstruction({"psnr": 25.3, "temporal": 0.0150}, alone).startswith("fair")
    assert readings.clip_reconstruction({"psnr": 24.1, "temporal": 0.0150}, alone).startswith("fair: 0.7 dB less")
    assert readings.clip_reconstruction({"psnr": 22.6, "temporal": 0.0224}, alone).startswith("poor: 2.2 dB less")


def test_retrieval_lies_between_chance_and_real_pictures() -> None:
    ceiling = {"top1": 0.8}
    said = [readings.retrieval({"top1": top1}, ceiling, 0.001) for top1 in (0.001, 0.4, 0.79)]
    assert [line.split(":")[0] for line in said] == ["poor", "fair", "good"]
    assert "79.0 of 100" in said[2]
    assert "real pictures 80.0" in said[2]
    assert "nothing to compare" in readings.retrieval({"count": 0}, ceiling, 0.1)


def test_distances_are_compared_with_held_out_pictures() -> None:
    figures: dict[str, Any] = {"frechet": 128.0, "floor": {"frechet": 72.3}}
    assert readings.distance(figures).startswith("fair: 1.8 times")
    assert readings.distance({"frechet": 80.0} | {"floor": {"frechet": 72.3}}).startswith("good")
    assert "too few" in readings.distance({"frechet": 80.0})
    few = {"frechet": 60.0, "as_few": {"frechet": 100.0}, "floor": {"frechet": 50.0}}
    assert readings.distance(few).startswith("fair: 2.0 times")  # by equal counts


def test_copies_are_compared_with_twins_among_held_out_pictures() -> None:
    assert readings.memorised({"copies": 0.01, "held_out": {"copies": 0.02}}).startswith("good")
    assert readings.memorised({"copies": 0.9, "held_out": {"copies": 0.02}}).startswith("it copies")


def test_bits_are_compared_with_a_png() -> None:
    noise = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    assert 8 < png_bits(noise) < 8.3
    assert png_bits(torch.zeros(3, 3, 64, 64, dtype=torch.uint8)) < 0.2
    assert readings.bits(2.0, 3.0).startswith("good")
    assert readings.bits(3.1, 3.0).startswith("poor")


def test_features_of_real_pictures_are_kept_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shape_folder(tmp_path / "a", 1)
    net, made = extractor(torch.device("cpu")), []
    exact = features.features_of

    def counted(net: Any, pictures: Tensor, pixels: int = 64) -> Tensor:
        made.append(len(pictures))
        return exact(net, pictures, pixels)

    monkeypatch.setattr(features, "features_of", counted)
    monkeypatch.setattr(features, "BLOCK", 6)
    pictures = load(folder, 32, DataConfig())
    reported: list[tuple[int, int]] = []
    first = real_features(net, pictures, report=lambda done, total: reported.append((done, total)))
    assert made == [6, 6, 4]
    assert reported == [(6, 16), (12, 16), (16, 16)]
    assert torch.equal(first, exact(net, pictures.pixels.float() / 127.5 - 1))
    text = (folder / "metadata.jsonl").read_text()
    (folder / "metadata.jsonl").write_text(text.replace("red circle", "scarlet disc"))
    again = load(folder, 32, DataConfig())
    assert again.fingerprint != pictures.fingerprint
    assert torch.equal(real_features(net, again), first)
    assert made == [6, 6, 4]


def test_every_command_takes_a_model_that_is_its_data(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(shape_folder(Path("shapes"), 1))
    assert execute(["info", "optimal"]) == 0
    assert "made_of" in capsys.readouterr().out
    assert execute(["plot", "schedule", "--model", "optimal", "-o", "a.png"]) == 0
    assert execute(["eval", "optimal", folder, "--distance", "--memorised", "--limit", "6", "--steps", "4"]) == 0
    said = capsys.readouterr().out
    assert "near copies" in said
    assert execute(["eval", "optimal", folder, "--bpd"]) == 2
    assert "density" in capsys.readouterr().err
