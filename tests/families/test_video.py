"""The codec of clips and the flow on its codes: begun from what is known of pictures, learning, drawing by address."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Blind, clip_folder, draw_shape

from genctl.data.clips import load_clips
from genctl.data.pictures import DataConfig
from genctl.diffusion.target import combine
from genctl.errors import UsageError
from genctl.families.base import Edit, Request
from genctl.families.clipvae import ClipLossConfig, ClipNetConfig, ClipVAE, ClipVAEConfig, ordered
from genctl.families.flow import sample
from genctl.families.flow.video_options import Closing, VideoOptions
from genctl.families.saved import load
from genctl.families.vae import VAE, NetConfig, VAEConfig
from genctl.families.video import Ends, Video, VideoConfig, encoded
from genctl.media.pictures import to_float, to_tensor
from genctl.nets.dit import DiT, DiTConfig
from genctl.nets.rotary import rotary
from genctl.rng import Draw, address
from genctl.sizes import Size

NET = ClipNetConfig((8, 16), (1, 1), (1, 1), latent=3, times=(True,), pasts=(0, 1))
CONFIG = ClipVAEConfig(32, frames=5, net=NET)


def data(folder: Path, **config: Any) -> Any:
    return load_clips(clip_folder(folder, stills=4), Size(32, 32), 5, 8.0, DataConfig(**config), print).split(False)


def clip(frames: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, frames, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_begun_from_a_picture_codec_it_has_its_codes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pictures = VAE(VAEConfig(32, NetConfig((8, 16), (1, 1), (1, 1), latent=3)))
    with torch.no_grad():
        for parameter in pictures.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    pictures.code_mean.fill_(0.1), pictures.code_std.fill_(0.7)
    config = dataclasses.replace(CONFIG, loss=ClipLossConfig(frozen="both", seen=2))
    clips = ClipVAE(config)
    with torch.no_grad():  # training moves what looks at other frames, and nothing else
        for name, parameter in clips.named_parameters():
            if name.endswith(".past") or ".time." in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    tensors = clips.inherited(
        "vae", {key: value for key, value in pictures.state_dict().items() if "critic" not in key}
    )
    assert clips.load_state_dict(tensors, strict=False).unexpected_keys == []
    shown = clip()[:, :, 0]
    code = pictures.encode(shown)
    assert torch.allclose(clips.encode(shown[:, :, None])[:, :, 0], code, atol=1e-5)
    assert torch.allclose(clips.encode(clip())[:, :, 0], code, atol=1e-5)
    assert torch.allclose(clips.decode(code[:, :, None])[:, :, 0], pictures.decode(code), atol=1e-5)
    clips.prepare_training()
    trained = {name for name, parameter in clips.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if not name.startswith("critic")} == {
        name for name, _ in clips.named_parameters() if name.endswith(".past") or ".time." in name
    }
    batch = {"clips": clip().transpose(1, 2)}
    assert [phase for phase, *_ in clips.training_step(batch, Draw(1, 1), 1.0)] == ["model", "critic"]
    with pytest.raises(UsageError, match="wants a picture codec to begin from"):
        ClipVAE(config).judged(data(tmp_path))
    with pytest.raises(UsageError, match="tensors"):
        clips.inherited("vae", {key: value for key, value in tensors.items() if "layers.0" not in key})


def test_the_decoder_alone_is_trained_where_codes_must_stay(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, clips = ClipVAE(dataclasses.replace(CONFIG, loss=ClipLossConfig(train_encoder=False))), data(tmp_path / "a")
    model.parts["lpips"] = Blind()
    model.prepare_training()
    source, code = model.source(clips, torch.device("cpu")), model.encode(clip())
    rows = torch.arange(4)
    _, loss, _ = next(iter(model.training_step(source.batch(rows, Draw(1, 4)), Draw(1, 4), 0.0)))
    loss.backward()
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    assert any(parameter.grad is not None for parameter in model.decoder.parameters())
    model.finish(source)
    assert torch.equal(model.encode(clip()), code)


FOLDED = dataclasses.replace(NET, times=(False,), pasts=(0, 0), fold=2, further=2)


def test_folded_codes_leave_pictures_as_they_are(models: Path) -> None:
    """Begun from a picture codec and from a flow on its codes, of one frame all is as before."""
    torch.manual_seed(0)
    pictures = VAE(VAEConfig(32, NetConfig((8, 16), (1, 1), (1, 1), latent=3)))
    pictures.code_mean.fill_(0.1), pictures.code_std.fill_(0.7)
    clips = ClipVAE(dataclasses.replace(CONFIG, net=FOLDED, loss=ClipLossConfig(frozen="encoder", seen=2)))
    tensors = {key: value for key, value in pictures.state_dict().items() if "critic" not in key}
    clips.load_state_dict(clips.inherited("vae", tensors), strict=False)
    clips.prepare_training()
    trained = {name for name, parameter in clips.encoder.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in clips.encoder.named_parameters() if name.startswith("fold.")}
    code = clips.encode(clip())
    assert code.shape == (1, 5, 3, 8, 8)
    assert torch.allclose(code[:, :3, 0], pictures.encode(clip()[:, :, 0]), atol=1e-5)
    assert not code[:, 3:, 0].any()
    assert code[:, 3:, 1:].any()
    assert torch.allclose(clips.decode(code)[:, :, 0], pictures.decode(code[:, :3, 0]), atol=1e-5)

    wide = DiTConfig(width=48, depth=2, heads=2, text_slots=4, coarse_from=0.5, patch=1)
    flow = DiT(wide, 3)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ours = Video(VideoConfig(32, channels=5, factor=4, frames=5, fps=8.0, period=2, net=wide))
    begun = ours.inherited("ldm", {f"net.{key}": value for key, value in flow.state_dict().items()})
    assert ours.load_state_dict(begun, strict=False).unexpected_keys == []
    x, t = torch.randn(2, 5, 8, 8), torch.tensor([0.2, 0.9])
    x[:, 3:] = 0
    asked = torch.randn(2, 4, 384), torch.ones(2, 4) > 0, torch.randn(2, 384)
    with torch.no_grad():
        made = ours.net(x[:, :, None], t, *asked)[:, :, 0]
        assert torch.allclose(made[:, :3], flow(x[:, :3], t, *asked), atol=1e-5)
    assert not made[:, 3:].any()
    other = Video(
        VideoConfig(32, channels=5, factor=4, frames=5, fps=8.0, period=2, net=dataclasses.replace(wide, patch=2))
    )
    tensors = {f"net.{key}": value for key, value in flow.state_dict().items()}
    assert other.inherited("ldm", tensors) is tensors  # of other patches nothing can be made
    for net in (dataclasses.replace(wide, coarse_from=1.0), dataclasses.replace(wide, width=64)):
        config = VideoConfig(32, channels=5, factor=4, frames=5, fps=8.0, period=2, net=net)
        made = Video(config).inherited("ldm", tensors)  # layers that it lacks, or has otherwise: left as they are
        assert made["net.coarse_embed.weight"] is tensors["net.coarse_embed.weight"]


def further_model(**diffusion: Any) -> Video:
    """Of five channels, three of them a picture's, with weights at random."""
    torch.manual_seed(1)
    net = DiTConfig(width=48, depth=2, heads=2, text_slots=4, coarse_from=0.5, patch=1)
    config = VideoConfig(
        32, channels=5, factor=4, frames=5, fps=8.0, period=2, latent=3, net=net,
        diffusion=dataclasses.replace(VideoConfig().diffusion, **diffusion),
    )  # fmt: skip
    model = Video(config)
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize(
    "diffusion",
    [{}, {"path": "cosine", "target": "v"}, {"path": "vp", "target": "noise"}, {"path": "edm", "target": "F"}],
)
def test_further_channels_have_their_best_linear_prediction(diffusion: dict[str, str]) -> None:
    """As least squares find it among samples; of a first frame, which has nothing there, it is the target itself."""
    model = further_model(**diffusion)
    x, z = torch.randn(512, 5, 3, 8, 8), torch.randn(512, 5, 3, 8, 8)
    x[:, 3:] *= model.config.spread
    x[:, 3:, 0] = 0
    for time in (0.15, 0.5, 0.9):
        t = torch.full((512,), time)
        x_t, target = model.path.mix(x, z, t), combine(model.config.diffusion.target, model.path, x, z, t)
        made = model.linear(x_t, t)
        assert isinstance(made, torch.Tensor)
        assert not made[:, :3].any()
        assert torch.allclose(made[:, 3:, 0], target[:, 3:, 0], rtol=1e-3, atol=1e-3)
        best = (x_t * target)[:, 3:, 1:].mean() / x_t[:, 3:, 1:].square().mean()
        share = (made / x_t)[:, 3:, 1:]
        assert torch.allclose(share, best.expand_as(share), rtol=0.03, atol=0.02)


@torch.no_grad()
def test_sampling_and_training_add_the_same_to_the_network() -> None:
    model = further_model()
    x_t, times = torch.randn(2, 5, 3, 8, 8), torch.tensor([0.9, 0.3])
    guesses = model.guesses(["", ""], tuple(x_t.shape), model.path, times, dtype=torch.float32)
    for k, time in enumerate(times):
        (found,) = guesses(x_t, k, True)
        assert torch.allclose(found, model.guess(x_t, time.expand(2), model.conditions(["", ""])), atol=1e-4)


@torch.no_grad()
def test_given_code_frames_are_not_in_the_loss() -> None:
    model = further_model()
    x, z, t = torch.randn(4, 5, 3, 8, 8), torch.randn(4, 5, 3, 8, 8), torch.tensor([0.2, 0.4, 0.6, 0.8])
    z[:2, :, 0] = x[:2, :, 0]  # on the linear path: no noise at any time
    nothing = model.conditions([""] * 4)
    whole = (model.predict(model.path.mix(x, z, t), t, nothing, None, None) - (z - x)).square()
    wanted = torch.cat([whole[:2, :, 1:].flatten(1).mean(1), whole[2:].flatten(1).mean(1)])
    assert torch.allclose(model.error(x, z, t, nothing), wanted, rtol=1e-4)


def test_a_codec_begun_from_one_with_fewer_channels_keeps_what_was_measured(tmp_path: Path) -> None:
    before = ClipVAE(dataclasses.replace(CONFIG, net=FOLDED))
    before.code_mean.fill_(0.3), before.code_std.fill_(0.7), before.later_std.fill_(0.5)
    wider = ClipVAE(dataclasses.replace(CONFIG, net=dataclasses.replace(FOLDED, further=3)))
    made = wider.inherited("clipvae", before.state_dict())
    assert made["code_mean"].flatten().tolist() == pytest.approx([0.3] * 5 + [0])
    assert made["later_std"].flatten().tolist() == pytest.approx([0.5] * 5 + [1])


def test_channels_that_say_nothing_are_not_blown_up(tmp_path: Path) -> None:
    """Of a folder whose clips stand still the further channels are rounding errors."""
    codec = ClipVAE(dataclasses.replace(CONFIG, net=FOLDED))
    for place in range(6):
        frame = draw_shape("circle", "red", "plain")
        frame.putpixel((place, 0), (0, 0, 0))
        (tmp_path / f"{place}").mkdir()
        for number in range(5):
            frame.save(tmp_path / f"{place}" / f"{number}.png")
    clips = load_clips(tmp_path, Size(32, 32), 5, 8.0, DataConfig(), print)
    assert clips.lengths.tolist() == [5] * 6
    codec.finish(codec.source(clips, torch.device("cpu")))
    assert float(codec.later_std.min()) > 1e-3
    assert codec.later_std[3:].flatten().tolist() == [2, 2]  # SLOW of the 1 that stands for nothing


def test_each_further_channel_is_divided_by_its_own_slowest() -> None:
    net = dataclasses.replace(FOLDED, fold=4, latent=6, further=4)
    codec = ClipVAE(dataclasses.replace(CONFIG, net=net))
    found = codec._divisors(torch.arange(1.0, 11)[:, None, None]).flatten()
    assert found.tolist() == [1, 2, 3, 4, 5, 6, 14, 16, 18, 20]


def test_further_channels_are_divided_by_their_slowest(tmp_path: Path) -> None:
    """The mean of four frames has unit deviation, its slowest cosine half of that, quicker ones what they are beside
    it; and with all numbers kept training leaves the encoder, and so these codes, as they were."""
    torch.manual_seed(0)
    net = dataclasses.replace(FOLDED, fold=4, further=9)
    codec = ClipVAE(dataclasses.replace(CONFIG, net=net, loss=ClipLossConfig(frozen="encoder")))
    codec.prepare_training()
    assert not [name for name, weight in codec.encoder.named_parameters() if weight.requires_grad]
    pictures = data(tmp_path)
    codec.finish(codec.source(pictures, torch.device("cpu")))
    rows = (~pictures.still()).nonzero()[:, 0]
    windows = pictures.windows(rows, torch.zeros_like(rows), 5)
    code = codec.encoded((windows.float() / 127.5 - 1).transpose(1, 2))[:, :, 1:]
    spread = code.std((0, 2, 3, 4)).view(4, 3)
    assert torch.allclose(spread[:2], torch.tensor([[1.0], [0.5]]).expand(2, 3), atol=1e-2)
    alone = torch.cat([codec.moments(windows[:, [n]].float() / 127.5 - 1, {})[0][:, :, :3] for n in range(1, 5)], 1)
    waves = torch.cos(torch.pi * 2 * (torch.arange(4) + 0.5) / 4) / 2
    wanted = ((alone * waves[:, None, None, None]).sum(1) - codec.later_mean[6:9]) / codec.later_std[6:9]
    assert torch.allclose(code[:, 6:9, 0], wanted, atol=1e-4)


def test_folded_codecs_that_cannot_be_are_refused() -> None:
    for net in (dataclasses.replace(FOLDED, further=4), dataclasses.replace(FOLDED, kind="wan")):
        with pytest.raises(UsageError, match=r"net\.further|net\.fold"):
            ClipVAE(dataclasses.replace(CONFIG, net=net))
    with pytest.raises(UsageError, match=r"loss\.decoded wants frames that are decoded alone"):
        ClipVAE(dataclasses.replace(CONFIG, loss=ClipLossConfig(decoded=3)))


def test_tensors_are_put_in_order() -> None:
    keys = ["d.layers.10.bias", "d.layers.2.second.weight", "d.layers.2.first.bias", "d.layers.10.weight"]
    keys += ["d.layers.2.first.weight", "d.layers.2.second.bias"]
    assert ordered(dict.fromkeys(keys)) == [  # type: ignore[arg-type]
        "d.layers.2.first.weight", "d.layers.2.first.bias", "d.layers.2.second.weight", "d.layers.2.second.bias",
        "d.layers.10.weight", "d.layers.10.bias",
    ]  # fmt: skip


def test_codes_of_any_length(models: Path) -> None:
    codec = load("tiny-clipvae")
    for frames, wanted in ((1, 1), (2, 2), (5, 3), (6, 4), (16, 9)):
        made = clip(frames)
        code = codec.encode(made)
        assert code.shape == (1, 2, wanted, 8, 8)
        assert codec.decode(code).shape == (1, 3, 1 + 2 * (wanted - 1), 32, 32)
    whole = clip(17)
    code = codec.encode(whole)  # part by part, as a long film is
    assert torch.allclose(code, codec.encoded(whole), atol=1e-4)
    assert torch.allclose(codec.decode(code), codec.rendered(code).clamp(-1, 1), atol=1e-4)
    padded = torch.cat([whole[:, :, :4], whole[:, :, 3:4]], 2)  # the last frame stands for what is missing
    assert torch.allclose(codec.encode(whole[:, :, :4]), codec.encode(padded), atol=1e-5)


def test_codes_are_normalised_first_frames_by_themselves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec, pictures = ClipVAE(CONFIG), data(tmp_path)
    source = codec.source(pictures, torch.device("cpu"))
    codec.finish(source)
    rows = (~pictures.still()).nonzero()[:, 0]
    assert len(rows) < len(pictures)  # stills say nothing of later frames
    windows = pictures.windows(rows, torch.zeros_like(rows), 5)
    codes = codec.encoded((windows.float() / 127.5 - 1).transpose(1, 2))
    for part in (codes[:, :, :1], codes[:, :, 1:]):
        assert torch.allclose(part.mean((0, 2, 3, 4)), torch.zeros(3), atol=1e-3)
        assert torch.allclose(part.std((0, 2, 3, 4)), torch.ones(3), atol=1e-2)


@pytest.mark.parametrize(("net", "decoded", "left"), [(NET, 0, 0.35), (FOLDED, 3, 0.5)])
def test_the_codec_learns_on_moving_pictures(
    net: ClipNetConfig, decoded: int, left: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    loss = ClipLossConfig(adversarial_from=0.9, critic_width=8, kl=0, decoded=decoded)
    codec, pictures = ClipVAE(dataclasses.replace(CONFIG, net=net, loss=loss)), data(tmp_path)
    monkeypatch.setattr(codec, "perceptual", lambda: Blind())
    source = codec.source(pictures, torch.device("cpu"))
    optimiser = torch.optim.AdamW(codec.phases()["model"].parameters(), 3e-3)
    losses = []
    for step in range(120):
        rows = torch.multinomial(source.weights, 4, True, generator=torch.Generator().manual_seed(step))
        (phase, total, figures), *_ = codec.training_step(source.batch(rows, Draw(step, 4)), Draw(step, 4), 0.0)
        assert phase == "model"
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        losses.append(float(figures["l1"].detach()))
    assert sum(losses[-10:]) < left * sum(losses[:10])
    phases = [phase for phase, *_ in codec.training_step(source.batch(rows, Draw(1, 4)), Draw(1, 4), 1.0)]
    assert phases == ["model", "critic"]


# the flow ------------------------------------------------------------------------------------------------------------
def request(seeds: list[int], prompts: list[str], edit: Edit | None = None, **asked: Any) -> Request:
    return Request(seeds, list(prompts), VideoOptions(**({"steps": 2, "cfg": 2.0} | asked)), edit)


def drawn(model: Any, asked: Request) -> torch.Tensor:
    return torch.cat([part.pictures for part in model.sample(asked) if part.final])


def test_four_clips_are_four_single_ones(models: Path) -> None:
    model = load("tiny-video")
    prompts = ["a cat", "a dog", "", "a cat"]
    together = drawn(model, request([1, 2, 3, 4], prompts))
    assert together.shape == (4, 3, 5, 32, 32)
    for place, prompt in enumerate(prompts):
        assert torch.equal(together[[place]], drawn(model, request([place + 1], [prompt])))
    assert not torch.equal(together[0], together[3])


def test_longer_clips_are_drawn_fewer_at_once(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load("tiny-video")
    monkeypatch.setattr(sample, "MOST_TOGETHER", (4, 4))  # of 5 frames, which have 3 code frames
    for frames, most in ((5, 4), (1, 8), (11, 2), (21, 1)):
        assert sample.together(model, request([*range(8)], [""] * 8, frames=frames)) == most, frames


def test_what_a_codec_of_clips_does_not_train_by_is_refused() -> None:
    for loss in (ClipLossConfig(equivariance=0.5), ClipLossConfig(alignment=0.1)):
        with pytest.raises(UsageError, match="clips have neither"):
            ClipVAE(dataclasses.replace(CONFIG, loss=loss))


@pytest.mark.parametrize("frames", [1, 2, 4, 9])
def test_as_many_frames_as_asked_for(models: Path, frames: int) -> None:
    assert drawn(load("tiny-video"), request([1], ["a cat"], frames=frames)).shape == (1, 3, frames, 32, 32)


@pytest.mark.parametrize("path", [None, "cosine", "vp", "edm"])
def test_given_frames_are_seen_as_they_are_on_every_path(
    models: Path, monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    """The network knows given frames by their being clean at its own scale, which another path's x_t has not."""
    model, seen = load("tiny-video"), list[torch.Tensor]()
    monkeypatch.setattr(model, "linear", lambda x_t, t: seen.append(x_t[:, :, 0].clone()) or 0.0)
    edit = Edit(clip(1)[0])
    drawn(model, request([1], ["a cat"], edit, path=path, steps=3))
    given = model.given(edit, model.shape_of(Size(32, 32))).x[:, :, 0]
    assert len(seen) >= 3
    assert all(torch.allclose(x, given, atol=1e-4) for x in seen)


def test_a_loop_goes_on_to_its_own_beginning(models: Path) -> None:
    model = load("tiny-video")  # of 5 frames, 2 a code frame: the end is 1 frame, the way 2, the beginning 2
    assert model.closing() == Closing(1, 2, 2)
    for frames in (None, 4, 9):
        made = drawn(model, request([1], ["a cat"], frames=frames, loop=True))[0]
        assert made.shape[1] == (frames or 7)
        plain = drawn(model, request([1], ["a cat"], frames=made.shape[1] - 2))[0]
        assert torch.equal(made[:, :-2], plain)
        ends = Ends(plain[:, -1:], end=plain[:, :2])
        way = drawn(model, request([address("loop", 1)], ["a cat"], ends, frames=5, cfg=1.0))[0]  # by noise of its own
        assert torch.equal(made[:, -2:], way[:, 1:3])
        x = model.given(ends, (2, 3, 8, 8))
        assert x.free is not None
        assert x.free.flatten().tolist() == [0, 1, 0]
    parts = list(model.sample(request([1, 2], ["a cat", "a dog"], loop=True)))
    assert [part.step for part in parts] == sorted(part.step for part in parts)
    assert (parts[-1].step, parts[-1].steps, len({part.steps for part in parts})) == (4, 4, 1)
    assert [part.final for part in parts].count(True) == 1
    for made, seed, prompt in zip(parts[-1].pictures, (1, 2), ("a cat", "a dog"), strict=True):
        assert torch.equal(made, drawn(model, request([seed], [prompt], loop=True))[0])
    with pytest.raises(UsageError, match="--loop --frames 3: 4 or more"):
        drawn(model, request([1], ["a cat"], frames=3, loop=True))
    with pytest.raises(UsageError, match="--loop --frames 5: 6 or more"):  # three are given, two lead back
        drawn(model, request([1], ["a cat"], Edit(clip(3)[0]), frames=5, loop=True))
    assert Closing.of(17, 4) == Closing(5, 8, 4)
    with pytest.raises(UsageError, match="three code frames"):
        Closing.of(5, 4)


def test_some_code_frames_are_given_and_never_all(models: Path) -> None:
    model = load("tiny-video")
    for frames in (2, 3, 5):
        kept = model.kept(frames, Draw(1, 4000))
        some = kept.any(1)
        assert 0.2 < some.float().mean() < 0.3
        assert not kept.all(1).any()
        assert kept[some, 0].all()
        closed = kept[some, -1].float().mean()
        assert closed == 0 if frames == 2 else 0.3 < closed < 0.5
        assert kept[:, 2:-1].any() == 0  # of the middle none
        if frames == 5:
            assert 0.4 < kept[some, 1].float().mean() < 0.6
    elsewhere = Draw(1, 8)
    elsewhere.uniform = lambda *shape: torch.rand(8, *shape, device="meta")  # type: ignore[method-assign]
    assert model.kept(3, elsewhere).device.type == "meta"  # as the draws are, so on a GPU as well


def test_a_clip_goes_on_from_a_picture_and_from_a_clip(models: Path) -> None:
    model = load("tiny-video")
    codec = model.codec()
    picture = to_float(to_tensor(draw_shape("circle", "red", "plain")))
    made = drawn(model, request([1], ["a cat"], Edit(picture)))
    assert torch.allclose(made[:, :, 0], codec.decode(codec.encode(picture[None, :, None]))[:, :, 0], atol=1e-4)
    assert not torch.allclose(made[:, :, 1:], drawn(model, request([1], ["a cat"]))[:, :, 1:], atol=1e-3)
    before = clip(3)[0]
    went_on = drawn(model, request([1], ["a cat"], Edit(before), frames=9))
    assert torch.allclose(went_on[0, :, :3], codec.decode(codec.encode(before[None]))[0], atol=1e-4)
    with pytest.raises(UsageError, match="more than the 3 that are given"):
        drawn(model, request([1], ["a cat"], Edit(before), frames=3))


def test_given_frames_are_seen_without_noise(models: Path) -> None:
    model: Any = load("tiny-video")
    x, t = torch.randn(64, 2, 3, 8, 8), torch.linspace(0.01, 1, 64)
    z = model.noise_of({"x": x}, t, Draw(3, 64))
    clean = (model.path.mix(x, z, t) - x).abs().amax((1, 3, 4)) < 1e-4  # [B, t]
    assert 5 < int(clean[:, 0].sum()) < 30  # a quarter of the rows
    assert 0 < int(clean[:, 1].sum()) < int(clean[:, 0].sum())  # two code frames in some
    assert not clean.all(1).any()
    assert not clean[:, 1][~clean[:, 0]].any()
    still = torch.randn(8, 2, 1, 8, 8)
    z = model.noise_of({"x": still}, t[:8], Draw(3, 8))
    assert not torch.isclose(model.path.mix(still, z, t[:8]), still).flatten(1).all(1).any()  # of no still


def test_pictures_and_clips_are_learned_together(models: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = DiTConfig(width=64, depth=2, heads=2, text_slots=8, patch=2)
    config = VideoConfig(32, codec="tiny-clipvae", stills=0.5, net=net)
    model = Video(Video.settled(config))
    assert (model.frames, model.fps, model.period) == (5, 8.0, 2)
    source = model.source(data(tmp_path / "set"), torch.device("cpu"))
    shapes = set()
    for step in range(12):
        rows = torch.multinomial(source.weights, 4, True, generator=torch.Generator().manual_seed(step))
        batch = source.batch(rows, Draw(step, 4))
        shapes.add(tuple(batch["x"].shape))
        ((phase, loss, _),) = model.training_step(batch, Draw(step, 4), 0.0)
        loss.backward()
        assert (phase, bool(torch.isfinite(loss))) == ("model", True)
    assert shapes == {(4, 2, 3, 8, 8), (4, 2, 1, 8, 8)}


def test_codes_are_those_of_the_clips_that_they_stand_for(models: Path, tmp_path: Path) -> None:
    """Clips and stills lie in one folder in turns: of stills no window is encoded."""
    config = VideoConfig(32, codec="tiny-clipvae", net=DiTConfig(width=64, depth=2, heads=2, text_slots=8))
    model, clips = Video(Video.settled(config)), data(tmp_path / "set", views=2)
    made = encoded(model.codec(), clips, 5, 2, lambda *_: None)
    moving = (~clips.still()).nonzero()[:, 0]
    assert 0 < len(moving) < len(clips)
    assert [len(made[name]) for name in ("windows", "stills")] == [2 * len(moving), 2 * len(clips)]
    source = model.source(clips, torch.device("cpu"))
    for place, row in enumerate(moving.tolist()):
        assert int(source.slot[row]) == place
        window = clips.windows(torch.tensor([row]), torch.tensor([0]), 5).float() / 127.5 - 1
        code = model.codec().encoded(window.transpose(1, 2))[0]
        assert torch.allclose(made["windows"][place].float(), code, atol=2e-3)
    for row in range(len(clips)):
        first = clips.clip(row)[:1].float() / 127.5 - 1
        assert torch.allclose(
            made["stills"][row].float(), model.codec().encoded(first.transpose(0, 1)[None])[0], atol=2e-3
        )
    rows = torch.multinomial(source.weights, 16, True)
    source.mixed.share = 0.0  # clips alone
    batch = source.batch(rows, Draw(1, 16))["x"]
    for row, x in zip(rows.tolist(), batch, strict=True):
        views = [made["windows"][int(source.slot[row]) + view * len(moving)].float() for view in (0, 1)]
        assert any(torch.equal(x, view) for view in views)


# the network ---------------------------------------------------------------------------------------------------------
def net_of(**changes: Any) -> DiT:
    torch.manual_seed(0)
    net = DiT(DiTConfig(width=48, depth=2, heads=2, text_slots=4, text_width=16, **changes), 3, axes=3).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def conditions(rows: int) -> tuple[torch.Tensor, ...]:
    return torch.randn(rows, 4, 16), torch.rand(rows, 4) > 0.3, torch.randn(rows, 16)


@pytest.mark.parametrize("attention", ["full", "factorised"])
@torch.no_grad()
def test_a_network_on_pictures_goes_on_with_clips(attention: str) -> None:
    """What it makes of one frame is what the picture's network makes of it."""
    clips = net_of(attention=attention)
    if attention == "factorised":
        for block in clips.blocks:
            block.time_out.weight.zero_()
    pictures = DiT(DiTConfig(width=48, depth=2, heads=2, text_slots=4, text_width=16), 3).eval()
    pictures.load_state_dict({k: v for k, v in clips.state_dict().items() if ".time_" not in k})
    x, t, asked = torch.randn(2, 3, 8, 8), torch.tensor([0.2, 0.9]), conditions(2)
    assert torch.allclose(clips(x[:, :, None], t, *asked)[:, :, 0], pictures(x, t, *asked), atol=1e-5)
    if attention == "factorised":  # and of several, each of them alone, but for its turn in time
        several = torch.randn(2, 3, 3, 8, 8)
        made = clips(several, t, *asked)
        assert torch.allclose(made[:, :, 0], pictures(several[:, :, 0], t, *asked), atol=1e-5)


@torch.no_grad()
def test_factorised_attention_is_the_slow_obvious_one() -> None:
    """A token is seen by its own frame, and by the same place in others."""
    net = net_of(attention="factorised")
    x, t, asked = torch.randn(1, 3, 3, 8, 8), torch.tensor([0.5]), conditions(1)
    block, made = net.blocks[0], {}
    inner, outer = block.out.weight.clone(), block.time_out.weight.clone()
    hook = block.register_forward_hook(lambda module, inputs, out: made.update(inputs=inputs, out=out))
    net(x, t, *asked)
    hook.remove()
    tokens, modulation, text, table, frames = made["inputs"]
    places = tokens.shape[1] // frames

    def reached(frame: int, place: int) -> torch.Tensor:
        """What changes [frames, places] where one token does."""
        changed = tokens.clone()
        changed[:, frame * places + place] += 1
        apart = block(changed, modulation, text, table, frames) - block(tokens, modulation, text, table, frames)
        return apart[0].abs().amax(-1).view(frames, places) > 1e-6

    for frame, place in ((1, 5), (2, 0)):
        block.out.weight.zero_()  # through time alone: this place, in every frame
        wanted = torch.zeros(frames, places, dtype=torch.bool)
        wanted[:, place] = True
        assert torch.equal(reached(frame, place), wanted)
        block.out.weight.copy_(inner)
        block.time_out.weight.zero_()  # within frames alone: this frame, at every place
        wanted = torch.zeros(frames, places, dtype=torch.bool)
        wanted[frame] = True
        assert torch.equal(reached(frame, place), wanted)
        block.time_out.weight.copy_(outer)


def test_time_turns_nothing_at_the_first_frame() -> None:
    flat, deep = rotary((4, 6), 32), rotary((3, 4, 6), 32)
    assert torch.equal(deep[:, :24], flat)
    assert not torch.allclose(deep[:, 24:48], flat, atol=1e-2)
    angles = torch.atan2(deep[1], deep[0]).view(3, 24, 32)
    later = (angles - angles[0]).remainder(2 * torch.pi)
    assert torch.allclose(later[1], later[1][:1].expand(24, -1), atol=1e-4)  # the same at every place
    longer = rotary((9, 4, 6), 32, trained=(3, 4, 6))
    assert torch.allclose(longer[:, :72], deep, atol=1e-5)  # a longer clip is no slower one
