"""Networks over clips: causal, the same in parts, a picture codec's on a first frame, and Wan 2.1's by a table."""

import pytest
import torch
from torch import Tensor, nn

from genctl.nets import autoencoder
from genctl.nets.causal import KINDS, Conv, Decoder, Doubled, Encoder, Halved, Memory, Shape
from genctl.nets.fold import Fold, Unfold
from genctl.nets.wan import from_wan


def shape_of(kind: str, past: int) -> Shape:
    if kind == "plain":
        return Shape((8, 16), (1, 1), (1, 2), (True,), (past, past), KINDS[kind])
    return Shape((8, 16, 16), (1, 1, 1), (2, 2, 2), (True, True), (past, past, past), KINDS[kind])


def scrambled(net: nn.Module) -> nn.Module:
    """With every weight moved, those that begin at zero too."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def in_parts(net: nn.Module, x: Tensor, lengths: list[int]) -> Tensor:
    memory: Memory = {}
    return torch.cat([net(part, memory) for part in x.split(lengths, 1)], 1)


@pytest.fixture(params=[("plain", 1), ("plain", 3), ("wan", 3), ("fold", 0)], ids=str)
def shape(request: pytest.FixtureRequest) -> Shape:
    return folded() if request.param[0] == "fold" else shape_of(*request.param)


def folded(frames: int = 3, further: int = 1) -> Shape:
    return Shape((8, 16), (1, 1), (1, 1), (False,), (0, 0), KINDS["plain"], frames, further)


@torch.no_grad()
def test_a_clip_in_parts_is_the_clip(shape: Shape) -> None:
    encoder, decoder, period = scrambled(Encoder(shape, 2)), scrambled(Decoder(shape, 2)), shape.period
    clip = torch.randn(2, 1 + 4 * period, 3, 16, 16)
    codes = encoder(clip, {})
    assert codes.shape[:3] == (2, 5, 2 * (2 + shape.further))
    for lengths in ([1, *[period] * 4], [1 + period, 3 * period], [1, 3 * period, period]):
        assert torch.allclose(in_parts(encoder, clip, lengths), codes, atol=1e-5)
    codes = codes[:, :, : 2 + shape.further]
    made = decoder(codes, {})
    assert made.shape == clip.shape
    for lengths in ([1, 1, 1, 1, 1], [2, 3], [1, 3, 1]):
        assert torch.allclose(in_parts(decoder, codes, lengths), made, atol=1e-5)


@torch.no_grad()
def test_no_frame_sees_a_later_one(shape: Shape) -> None:
    encoder, decoder, period = scrambled(Encoder(shape, 2)), scrambled(Decoder(shape, 2)), shape.period
    clip = torch.randn(1, 1 + 3 * period, 3, 16, 16)
    for frame in range(clip.shape[1]):
        changed = clip.clone()
        changed[:, frame] += 1
        apart = (encoder(changed, {}) - encoder(clip, {})).abs().amax((0, 2, 3, 4))
        first = -(-frame // period)  # the code frame that it belongs to
        assert bool((apart[:first] < 1e-6).all())
        assert apart[first] > 1e-4
    codes = torch.randn(1, 4, 2 + shape.further, 4, 4)
    for place in range(4):
        changed = codes.clone()
        changed[:, place] += 1
        apart = (decoder(changed, {}) - decoder(codes, {})).abs().amax((0, 2, 3, 4))
        first = 0 if place == 0 else 1 + (place - 1) * period
        assert bool((apart[:first] < 1e-6).all())
        assert apart[first] > 1e-4


@torch.no_grad()
def test_a_first_frame_is_the_picture_codecs() -> None:
    """With its kernels as slices of the present, whatever the slices of the past are."""
    pictures, code = torch.rand(2, 3, 16, 16) * 2 - 1, torch.randn(2, 3, 4, 4)
    theirs = scrambled(autoencoder.Encoder((8, 16), (1, 1), 3)), scrambled(autoencoder.Decoder((8, 16), (1, 2), 3))
    ours = Encoder(shape_of("plain", 1), 3), Decoder(shape_of("plain", 1), 3)
    for their, our in zip(theirs, ours, strict=True):
        scrambled(our)
        present = [p for name, p in our.named_parameters() if not name.endswith(".past") and ".time." not in name]
        for parameter, value in zip(present, their.parameters(), strict=True):
            parameter.copy_(value)
    clip = torch.cat([pictures[:, None], torch.randn(2, 2, 3, 16, 16)], 1)
    codes = ours[0](clip, {})
    means, log_variances = codes.chunk(2, 2)
    assert torch.allclose(means[:, 0], theirs[0](pictures)[0], atol=1e-5)
    assert torch.allclose(log_variances[:, 0].clamp(-20, 4), theirs[0](pictures)[1], atol=1e-5)
    later = torch.cat([code[:, None], torch.randn(2, 1, 3, 4, 4)], 1)
    assert torch.allclose(ours[1](later, {})[:, 0], theirs[1](code), atol=1e-5)
    assert not torch.allclose(codes[:, 1], ours[0](clip[:, 1:2], {})[:, 0], atol=1e-2)


@torch.no_grad()
def test_a_convolution_is_the_one_over_three_frames() -> None:
    conv = scrambled(Conv(3, 5, 3, past=3))
    x = torch.randn(2, 6, 3, 8, 8)
    kernel = torch.cat([conv.past.movedim(0, 2), conv.weight[:, :, None]], 2)  # type: ignore[union-attr]
    padded = nn.functional.pad(x.transpose(1, 2), (1, 1, 1, 1, 2, 0))
    assert torch.allclose(conv(x, {}).transpose(1, 2), nn.functional.conv3d(padded, kernel, conv.bias), atol=1e-5)


@torch.no_grad()
def test_time_is_halved_and_doubled_by_repeating_at_the_start() -> None:
    """So a codec that was inflated holds every second frame, and shows it twice."""
    halved, doubled = Halved(2, 2, KINDS["plain"], True), Doubled(2, 2, True)
    for layer in (halved, doubled):
        nn.init.dirac_(layer.space.weight)
        nn.init.zeros_(layer.space.bias)
    x = torch.randn(1, 5, 2, 8, 8)
    kept = halved(x, {})
    assert torch.allclose(kept, x[:, ::2, :, ::2, ::2], atol=1e-6)
    assert torch.allclose(doubled(kept, {})[:, :, :, ::2, ::2], kept[:, [0, 1, 1, 2, 2]], atol=1e-6)


@pytest.mark.peer
@torch.no_grad()
def test_wan_by_a_table_is_its_peer() -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    peer = diffusers.AutoencoderKLWan(base_dim=8, z_dim=4, latents_mean=[0.0] * 4, latents_std=[1.0] * 4).eval()
    for parameter in peer.parameters():
        parameter.normal_(0, 0.3 if parameter.dim() == 1 else 0.1)
    shape = Shape((8, 16, 32, 32), (2,) * 4, (3,) * 4, (False, True, True), (3,) * 4, KINDS["wan"])
    encoder, decoder = Encoder(shape, 4).eval(), Decoder(shape, 4).eval()
    tensors = from_wan(encoder, decoder, peer.state_dict())
    for side, net in (("encoder", encoder), ("decoder", decoder)):
        own = {key.removeprefix(f"{side}."): value for key, value in tensors.items() if key.startswith(side)}
        net.load_state_dict(own)
    clip = torch.rand(1, 3, 13, 32, 32) * 2 - 1
    theirs = peer.encode(clip).latent_dist.mean
    ours = encoder(clip.transpose(1, 2), {}).chunk(2, 2)[0].transpose(1, 2)
    assert torch.allclose(ours, theirs, atol=1e-5 * float(theirs.abs().max()))
    shown = peer.decode(theirs).sample
    assert torch.allclose(decoder(theirs.transpose(1, 2), {}).transpose(1, 2).clamp(-1, 1), shown, atol=1e-5)


@torch.no_grad()
def test_folded_codes_begin_as_cosines_in_time() -> None:
    """Of as many numbers as there are nothing is lost; of fewer, what stands still or moves evenly is nearly kept; and
    the first ones are the mean of pictures' codes."""
    torch.manual_seed(0)
    fold, unfold = Fold(2, 6, 4), Unfold(2, 6, 4)
    codes, log_variances = torch.randn(3, 9, 2, 5, 5), torch.full((3, 9, 2, 5, 5), -5.0)
    made = fold(torch.cat([codes, log_variances], 2), {})
    means, spread = made.chunk(2, 2)
    assert means.shape == (3, 3, 8, 5, 5)
    assert torch.allclose(unfold(means, {}), codes, atol=1e-5)
    assert torch.equal(means[:, 0, :2], codes[:, 0])
    assert not means[:, 0, 2:].any()
    assert bool((spread[:, 0, 2:] == -20).all())
    back = unfold.mix.weight[:, :, 0, 0].square() @ spread[0, 1, :, 0, 0].exp()  # variances of frames
    assert torch.allclose(back.log(), torch.tensor(-5.0))
    drawn = means.clone()
    drawn[:, 0, 2:] = 1.0  # what a flow drew where a first frame has nothing
    assert torch.equal(unfold(drawn, {}), unfold(means, {}))
    assert not any(weight.requires_grad for weight in fold.parameters())
    assert torch.allclose(means[:, 1, :2], codes[:, 1:5].mean(1), atol=1e-6)
    fold, unfold = Fold(2, 2, 4), Unfold(2, 2, 4)
    even = torch.randn(1, 1, 2, 5, 5) + torch.arange(9.0)[None, :, None, None, None] * torch.randn(1, 1, 2, 5, 5)
    back = unfold(fold(torch.cat([even, even], 2), {}).chunk(2, 2)[0], {})
    assert float((back - even).abs().max()) < 0.11 * float(even.diff(dim=1).abs().max())


@torch.no_grad()
def test_frames_decoded_alone_are_those_of_the_clip() -> None:
    encoder, decoder = scrambled(Encoder(folded(), 2)), scrambled(Decoder(folded(), 2))
    codes = encoder(torch.randn(1, 10, 3, 16, 16), {}).chunk(2, 2)[0]
    whole = decoder(codes, {})
    assert torch.allclose(decoder(codes, {}, slice(4, 8)), whole[:, 4:8], atol=1e-6)
    assert folded().apart
    assert not shape_of("plain", 1).apart
