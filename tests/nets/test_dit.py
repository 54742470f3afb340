"""The transformer: patches there and back, the prepared loop against the plain forward, conditions that matter."""

import dataclasses
from collections.abc import Callable

import pytest
import torch

from genctl.nets import graph
from genctl.nets.dit import DiT, DiTConfig
from genctl.nets.dit_sample import Loop, TwoLoops, pack
from genctl.nets.rotary import rotary, rotate

SMALL = DiTConfig(width=64, depth=3, heads=2, text_width=24, text_slots=5)


def net(config: DiTConfig, axes: int = 2) -> DiT:
    torch.manual_seed(0)
    made = DiT(config, channels=3, axes=axes).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # the zeros of adaLN-zero would hide mistakes
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def conditions(rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    present = torch.arange(5)[None] < torch.tensor([[3], [5], [0], [0]])[:rows]
    return torch.randn(rows, 5, 24, generator=draw), present, torch.randn(rows, 24, generator=draw)


@pytest.mark.parametrize(("axes", "shape"), [(2, (2, 3, 6, 4)), (3, (2, 3, 5, 4, 6))])
def test_patches_there_and_back(axes: int, shape: tuple[int, ...]) -> None:
    made = net(SMALL, axes)
    x = torch.randn(shape)
    tokens = made.patchify(x)
    assert torch.equal(made.unpatchify(tokens, made.grid(x)), x)
    first = x[0, :, ..., :2, :2] if axes == 2 else x[0, :, 0, :2, :2]
    assert torch.equal(tokens[0, 0].view(2, 2, 3), first.permute(1, 2, 0))  # a token is one patch, not a stripe


@pytest.mark.parametrize("text", ["joint", "cross"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 6e-2)])
def test_prepared_loop_equals_plain_forward(text: str, dtype: torch.dtype, tolerance: float) -> None:
    made = net(dataclasses.replace(SMALL, text=text))  # type: ignore[arg-type]
    states, present, pooled = conditions(4)
    x = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(2))
    times = torch.tensor([1.0, 0.7, 0.2])
    with torch.inference_mode():
        loop = Loop(made, pack(made, dtype), dtype, x.shape, times, states, present, pooled)
        for k, t in enumerate(times):
            wanted = made(x.repeat(2, 1, 1, 1), t.expand(4), states, present, pooled)
            got = loop(x, k, True)
            assert (got - wanted).abs().max() < tolerance * wanted.abs().max()
            alone = loop(x, k, False)
            assert (alone - wanted[:2]).abs().max() < tolerance * wanted.abs().max()


@pytest.mark.parametrize("text", ["joint", "cross"])
@pytest.mark.parametrize("attention", ["full", "factorised"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 6e-2)])
@pytest.mark.parametrize("frames", [1, 3])
def test_prepared_loop_equals_plain_forward_on_clips(
    text: str, attention: str, dtype: torch.dtype, tolerance: float, frames: int
) -> None:
    made = net(dataclasses.replace(SMALL, text=text, attention=attention, skips=True, coarse_from=0.5), 3)  # type: ignore[arg-type]
    given, x = conditions(4), torch.randn(2, 3, frames, 8, 12, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        packed = pack(made, dtype)
        for t, coarse in ((0.9, True), (0.2, False)):
            loop = Loop(made, packed, dtype, x.shape, torch.tensor([t]), *given, coarse=coarse)
            wanted = made(x.repeat(2, 1, 1, 1, 1), torch.full((4,), t), *given)
            for both, rows in ((True, 4), (False, 2)):
                assert (loop(x, 0, both) - wanted[:rows]).abs().max() < tolerance * wanted.abs().max()
            assert torch.allclose(loop.alone(1)(x[[1]], 0, True), loop(x, 0, True)[[1, 3]], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("depth", [1, 4, 5])
def test_long_skips_lead_from_each_block_to_its_mirror(depth: int) -> None:
    config = dataclasses.replace(SMALL, depth=depth, skips=True)
    made, given, x, t = net(config), conditions(2), torch.randn(2, 3, 8, 6), torch.tensor([0.9, 0.2])
    assert len(made.skips) == depth // 2
    plain = DiT(dataclasses.replace(config, skips=False), channels=3).eval()
    plain.load_state_dict({key: value for key, value in made.state_dict().items() if "skips" not in key})
    inputs: dict[int, torch.Tensor] = {}

    def enter(place: int, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """The slow way: what a block gets, and what its mirror got before."""
        tokens, mirror = given[0], depth - 1 - place
        if mirror < place:
            tokens = tokens + rms(inputs[mirror]) @ made.skips[mirror].weight.T
        inputs[place] = tokens
        return (tokens, *given[1:])

    for place, block in enumerate(plain.blocks):
        block.register_forward_pre_hook(lambda _, inputs, place=place: enter(place, inputs))
    with torch.inference_mode():
        assert (made(x, t, *given) - plain(x, t, *given)).abs().max() < 1e-4
        loop = Loop(made, pack(made, torch.float32), torch.float32, x[:1].shape, t, *given)
        wanted = made(x[:1].repeat(2, 1, 1, 1), t[:1].expand(2), *given)
        assert (loop(x[:1], 0, True) - wanted).abs().max() < 1e-4 * wanted.abs().max()
        assert loop.rounds_alike()  # of one picture: it is looked at by its first block alone
    fresh = DiT(config, channels=3)
    assert not any(skip.weight.any() for skip in fresh.skips)  # a network without them may go on with them


def rms(x: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


COARSE = dataclasses.replace(SMALL, coarse_from=0.65)


def test_coarse_rows_go_another_way_and_fine_ones_as_ever() -> None:
    made, plain = net(COARSE), net(SMALL)
    plain.load_state_dict({key: value for key, value in made.state_dict().items() if "coarse" not in key})
    x, t, given = torch.randn(4, 3, 8, 12), torch.tensor([0.9, 0.2, 0.66, 0.65]), conditions(4)
    with torch.inference_mode():
        got = made(x, t, *given)
        for row in range(4):
            alone = made(x[[row]], t[[row]], *(part[[row]] for part in given))
            assert torch.allclose(got[[row]], alone, atol=1e-5)
        fine = plain(x, t, *given)
        assert torch.allclose(got[1::2], fine[1::2], atol=1e-5)
        assert all((got[row] - fine[row]).abs().max() > 0.1 for row in (0, 2))
    inner = []
    made.blocks[0].register_forward_pre_hook(lambda _, inputs: inner.append(inputs[0].shape[:2]))
    made(x, t, *given)
    assert inner == [(2, 24), (2, 6)]  # a quarter of the tokens


def test_coarse_patches_lie_in_the_middle_of_the_fine_ones() -> None:
    fine, coarse = rotary((4, 6), 32), rotary((2, 3), 32, step=2)
    angles = [torch.atan2(*table.flip(0)) for table in (fine.double(), coarse.double())]
    means = angles[0].view(4, 6, 32).unfold(0, 2, 2).unfold(1, 2, 2).mean((-1, -2)).view(6, 32)
    slow = means.abs().amax(0) < 1  # no wrap around
    assert slow.sum() > 10
    assert torch.allclose(means[:, slow], angles[1][:, slow], atol=1e-6)


def test_prepared_loops_of_two_kinds_equal_the_plain_forward() -> None:
    made, (states, present, pooled) = net(COARSE), conditions(4)
    x, times = torch.randn(2, 3, 8, 12), torch.tensor([1.0, 0.7, 0.6, 0.9, 0.2])
    packed = pack(made, torch.float32)

    def loop(places: torch.Tensor, coarse: bool) -> Loop:
        known = times[places]
        return Loop(made, packed, torch.float32, x.shape, known, states, present, pooled, None, None, coarse)

    with torch.inference_mode():
        both = TwoLoops(loop, times > 0.65)
        for k, t in enumerate(times):
            wanted = made(x.repeat(2, 1, 1, 1), t.expand(4), states, present, pooled)
            assert (both(x, k, True) - wanted).abs().max() < 1e-4 * wanted.abs().max()
        assert both.rounds_alike() in (True, False)


@pytest.mark.parametrize("text", ["joint", "cross"])
def test_a_captured_loop_takes_the_conditions_of_another(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a graph needs: new times and prompts reach the loop that was captured through its own buffers. Capturing is
    stood in for by running the step on fixed copies of its first inputs, as a graph would."""

    def fixed(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Callable[..., torch.Tensor]:
        static = [tensor.clone() for tensor in inputs]

        def replay(*new: torch.Tensor) -> torch.Tensor:
            for buffer, values in zip(static, new, strict=True):
                buffer.copy_(values)
            return function(*static)

        return replay

    monkeypatch.setattr(graph, "capture", fixed)
    made = net(dataclasses.replace(SMALL, text=text))  # type: ignore[arg-type]
    states, present, pooled = conditions(4)
    x = torch.randn(2, 3, 8, 6)
    with torch.inference_mode():
        packed = pack(made, torch.float32)

        def loop(times: list[float], rows: torch.Tensor) -> Loop:
            parts = (states[rows], present[rows], pooled[rows])
            return Loop(made, packed, torch.float32, x.shape, torch.tensor(times), *parts)

        order, reverse = torch.arange(4), torch.tensor([3, 2, 1, 0])
        first = graph.GraphLoop(loop([1.0, 0.5], order))
        second = graph.GraphLoop(loop([0.8, 0.3, 0.1], reverse), first.captured)
        assert first.captured is second.captured
        for _ in range(2):  # in turns
            for run, times, rows in ((first, [1.0, 0.5], order), (second, [0.8, 0.3, 0.1], reverse)):
                for k, both in ((0, True), (1, True), (1, False)):
                    assert torch.equal(run(x, k, both), loop(times, rows)(x, k, both))


def test_a_loop_that_cannot_be_captured_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graph, "capture", refuse)
    made = net(SMALL)
    x = torch.randn(2, 3, 8, 6)
    with torch.inference_mode():
        loop = Loop(made, pack(made, torch.float32), torch.float32, x.shape, torch.tensor([0.5]), *conditions(4))
        assert torch.equal(graph.GraphLoop(loop)(x, 0, True), loop(x, 0, True))


@pytest.mark.gpu
def test_a_graph_equals_the_eager_loop_on_a_gpu() -> None:
    made = net(SMALL).cuda()
    states, present, pooled = (part.cuda() for part in conditions(4))
    x = torch.randn(2, 3, 8, 6, device="cuda")
    times, dtype = torch.tensor([0.9, 0.4]), torch.bfloat16
    with torch.inference_mode():
        loop = Loop(made, pack(made, dtype), dtype, x.shape, times, states, present, pooled)
        captured = graph.GraphLoop(loop)
        for k, both in ((0, True), (1, True), (1, False)):
            assert torch.equal(captured(x, k, both), loop(x, k, both))
        assert all(step != loop.step for step in captured.captured.steps.values())  # it was captured, not run as it is


def test_prepared_loop_is_batch_invariant() -> None:
    made = net(SMALL)
    states, present, pooled = conditions(2)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    times = torch.tensor([0.9, 0.4])
    with torch.inference_mode():
        packed = pack(made, torch.bfloat16)
        many = Loop(made, packed, torch.bfloat16, x.shape, times, states, present, pooled)
        one = Loop(made, packed, torch.bfloat16, x[1:].shape, times, states[1:], present[1:], pooled[1:])
        assert torch.equal(many(x, 1, False)[1:], one(x[1:], 1, False))


def test_packed_weights_serve_grids_of_several_shapes_in_turn() -> None:
    made = net(SMALL)
    with torch.inference_mode():
        kept = pack(made, torch.float32)
        for size in ((8, 8), (8, 6), (8, 8), (6, 8)):
            x = torch.randn(2, 3, *size)
            kept_loop, fresh = (
                Loop(made, packed, torch.float32, x.shape, torch.tensor([0.5]), *conditions(2))
                for packed in (kept, pack(made, torch.float32))
            )
            assert torch.equal(kept_loop(x, 0, False), fresh(x, 0, False))


def test_every_condition_changes_the_prediction() -> None:
    made = net(SMALL)
    states, present, pooled = conditions(2)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([0.3, 0.3])
    with torch.no_grad():
        base = made(x, t, states, present, pooled)
        assert not torch.allclose(base, made(x, t + 0.2, states, present, pooled))
        assert not torch.allclose(base, made(x, t, states + 1, present, pooled))
        assert not torch.allclose(base, made(x, t, states, present, pooled + 1))
        # what stands in an empty slot must not matter
        other = torch.where(present[..., None], states, torch.randn_like(states))
        assert torch.equal(base, made(x, t, other, present, pooled))


def test_untrained_net_predicts_zero() -> None:
    torch.manual_seed(0)
    made = DiT(SMALL, channels=3)
    states, present, pooled = conditions(2)
    assert made(torch.randn(2, 3, 8, 8), torch.rand(2), states, present, pooled).abs().max() == 0


def test_rotary_keeps_lengths_and_sees_only_differences() -> None:
    table = rotary((4, 5), 16)
    q, k = torch.randn(16), torch.randn(16)
    turned_q, turned_k = rotate(q.expand(20, 16), table), rotate(k.expand(20, 16), table)
    assert torch.allclose(turned_q.norm(dim=-1), q.norm().expand(20), atol=1e-5)
    scores = (turned_q @ turned_k.T).view(4, 5, 4, 5)
    assert torch.allclose(scores[0, 0, 1, 2], scores[2, 2, 3, 4], atol=1e-5)
    assert not torch.allclose(scores[0, 0, 1, 2], scores[0, 0, 2, 1], atol=1e-3)  # the axes differ
