"""What clips are measured by: motion against standing still, shuffling and noise; codecs and flows on real clips."""

import json
from pathlib import Path

import pytest
import torch
from helpers import clip_folder, moving

from genctl.cli.main import execute
from genctl.media.pictures import to_float, to_tensor
from genctl.metrics.clips import motion, warping
from genctl.metrics.readings import motion as reading


def clip(frames: int = 12) -> torch.Tensor:
    return torch.stack([to_float(to_tensor(frame)) for frame in moving("circle", "red", frames)], 1)[None]


def test_standing_still_moving_and_noise_are_told_apart() -> None:
    real = clip()
    still, noise = real[:, :, :1].expand_as(real), torch.rand_like(real) * 2 - 1
    shuffled = real[:, :, torch.randperm(12, generator=torch.Generator().manual_seed(1))]
    figures = {
        name: motion(one) for name, one in {"real": real, "still": still, "noise": noise, "mixed": shuffled}.items()
    }
    assert float(figures["still"]["difference"]) == 0
    assert 0.005 < float(figures["real"]["difference"]) < 0.1
    assert float(figures["noise"]["difference"]) == pytest.approx(1 / 3, abs=0.01)
    assert float(figures["real"]["order"]) < min(0.8, 0.8 * float(figures["mixed"]["order"]))
    assert float(figures["noise"]["order"]) == pytest.approx(1, abs=0.05)


def test_what_only_moved_is_warped_to_nothing() -> None:
    torch.manual_seed(0)
    wide = torch.rand(1, 3, 40, 60)
    frames = torch.cat([wide[..., 4:36, 10 + 2 * t : 42 + 2 * t] for t in range(5)])
    assert float(warping(frames)) < 0.25 * float(frames.diff(dim=0).abs().mean())  # all but what comes in at the edge
    inner = frames[..., 8:24, 8:16]
    assert float(warping(inner)) < float(inner.diff(dim=0).abs().mean())
    assert float(warping(wide[..., :32, :32].expand(4, -1, -1, -1))) == 0


def test_a_sentence_on_motion() -> None:
    def of(difference: float, order: float) -> str:
        ranges = {"difference": [0.01, 0.05], "order": [0.3, 0.8]}
        values = {"difference": difference, "order": order}
        return reading({name: {"median": values[name], "real_range": ranges[name]} for name in values})

    assert of(0.02, 0.5).startswith("good")
    assert "stand still" in of(0.001, 0.5)
    assert "flicker" in of(0.2, 0.5)
    assert "jump about" in of(0.02, 1.0)


def test_measured_by_the_command(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip_folder(Path("set"), stills=4)
    assert execute(["eval", "tiny-clipvae", "set", "--json", "-q"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["frames"] == 5
    assert {"psnr", "lpips", "temporal"} <= said["frame_by_frame"].keys()
    clip_folder(Path("clips"))
    assert execute(["eval", "tiny-clipvae", "clips", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out) == said  # stills among the clips count for nothing
    assert execute(["eval", "tiny-video", "set", "--json", "-q", "--limit", "4", "--steps", "1"]) == 0
    said = json.loads(capsys.readouterr().out)["motion"]
    assert said["frames"] == 5
    assert len(said["difference"]["real_range"]) == 2
    assert said["frames_distance"]["count"] == 4 * said["count"]
    assert execute(["eval", "tiny-video", "set", "--memorised", "-q"]) == 3
    Path("set/metadata.jsonl").write_text(
        Path("set/metadata.jsonl").read_text().replace('"loop": true', '"loop": false')
    )
    assert execute(["eval", "tiny-video", "set", "--limit", "2", "--steps", "1", "--frames", "9", "-q"]) == 2
    assert "--frames 9: no clip of the data is as long" in capsys.readouterr().err  # clips of 8, which do not go round
    for name in ("a.png", "b.png", "c.png", "d.png"):
        Path("stills").mkdir(exist_ok=True)
        moving("circle", "red", 8)[len(list(Path("stills").iterdir()))].save(f"stills/{name}")
    assert execute(["eval", "tiny-clipvae", "stills", "--json", "-q"]) == 0  # pictures are clips of one frame
    assert json.loads(capsys.readouterr().out)["psnr"] > 0
