"""Models over tokens: their three orders, draws by address, likelihood, and what is drawn anew of a picture."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import shape_folder
from torch import Tensor

from genctl.data.pictures import DataConfig, load
from genctl.errors import ModelError, UsageError
from genctl.families import saved
from genctl.families.ar import AR, ARConfig
from genctl.families.base import Edit, Request
from genctl.families.tokens import sample
from genctl.families.tokens.orders import Masked, Order, Raster, Scale, halton
from genctl.families.tokens.settings import TokenOptions
from genctl.nets.gpt import GPT, GPTConfig
from genctl.nets.gpt_sample import pack
from genctl.rng import Draw, picture_noise
from genctl.sizes import Size

NAMES = ("tiny-ar", "tiny-raster", "tiny-scale")
GRID = [(3, 4)]


def loaded(name: str) -> AR:
    model = saved.load(name)
    assert isinstance(model, AR)
    return model


def asked(model: AR, count: int) -> list[Any]:
    return ["red", "green", ""][:count] if model.condition != "none" else [""] * count


def tokens_of(model: AR, seeds: list[int], conditions: list[Any], **options: Any) -> Tensor:
    """The tokens [B, N] that pictures of these seeds are made of."""
    settled = TokenOptions(**options).settled(model.document(), any(conditions))
    guided = settled.cfg not in (None, 1)
    rows = model.conditions([*conditions, *[""] * len(conditions)] if guided else conditions)
    numbers = picture_noise(seeds, model.noise_shape())
    with torch.inference_mode():
        *_, (tokens, known, *_) = sample.draw(
            model.net, pack(model.net, torch.float32), model.order, settled, rows, numbers, model.features
        )
    assert known.all()
    return tokens


def plainly(model: AR, seed: int, condition: Any, options: TokenOptions) -> Tensor:
    """Tokens [1, N] by the slow obvious way: the whole sequence through the plain net at each pass."""
    order, net = model.order, model.net
    numbers = torch.special.ndtr(picture_noise([seed], model.noise_shape()).double())
    tokens, known = torch.zeros(1, order.count, dtype=torch.long), torch.zeros(order.count, dtype=torch.bool)
    parts = order.passes(options.passes, ~known)
    for k, part in enumerate(parts):
        logits = []
        for text in [condition, ""] if options.cfg not in (None, 1) else [condition]:
            if order.cached:  # all elements at once: later ones are not seen
                lesson = order.judging(net, tokens, model.features, Draw(0, 1))
                logits.append(net(*lesson.elements, *model.conditions([text]))[:, part])
            else:
                elements = order.elements(net, tokens, known, part, model.features)
                logits.append(net(*elements, *model.conditions([text]))[:, part])
        mixed = sample.guided(torch.cat(logits), options, 1, k / max(1, len(parts) - 1))
        tokens[:, part] = sample.choose(mixed, options, numbers[:, part])
        known[part] = True
    return tokens


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {"passes": 1}, {"temperature": 0.7, "top_k": 5, "top_p": 0.9}]
)
def test_cached_drawing_is_the_uncached_one_to_the_token(name: str, options: dict[str, Any]) -> None:
    model = loaded(name)
    options = {key: value for key, value in options.items() if key != "passes" or name == "tiny-ar"}
    for seed, condition in enumerate(asked(model, 2)):
        settled = TokenOptions(**options).settled(model.document(), bool(condition))
        with torch.inference_mode():
            wanted = plainly(model, seed, condition, settled)
        assert torch.equal(tokens_of(model, [seed], [condition], **options), wanted)
    if options.get("temperature") != 0.0:
        assert len(wanted.unique()) > 2


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("name", NAMES)
def test_a_picture_does_not_depend_on_its_batch(name: str) -> None:
    model = loaded(name)
    conditions = asked(model, 3)
    together = [*model.sample(Request([5, 6, 7], conditions, chunk=3))][-1].pictures
    chunks = [part for part in model.sample(Request([5, 6, 7], conditions, chunk=2)) if part.final]
    alone = [[*model.sample(Request([5 + i], [text]))][-1].pictures for i, text in enumerate(conditions)]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together, torch.cat([part.pictures for part in chunks]))
    assert together.shape == (3, 3, 32, 32)
    assert not torch.equal(together[0], together[1])


@pytest.mark.usefixtures("models")
def test_where_kernels_round_by_the_batch_each_picture_runs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded("tiny-ar")
    monkeypatch.setattr(sample, "rounds_alike", lambda *_: False)
    sizes = [len(part.pictures) for part in model.sample(Request([5, 6, 7], chunk=3)) if part.final]
    assert sizes == [1, 1, 1]


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("name", NAMES)
def test_the_probe_sees_a_net_that_mixes_its_rows(name: str) -> None:
    model = loaded(name)
    packed, conditions = pack(model.net, torch.float32), model.conditions(["", ""])
    options = TokenOptions().settled(model.document(), False)
    given = (model.net, packed, model.order, options, conditions)
    assert sample.rounds_alike(*given, model.features_alone, 2)
    if name == "tiny-scale":
        assert not sample.rounds_alike(*given, lambda *a: model.features(*a) + 1e-6 * len(a[0]), 2)
    plain = packed.last
    packed.last = lambda x: plain(x + 1e-6 * x.mean())
    assert not sample.rounds_alike(*given, model.features_alone, 2)


@pytest.mark.usefixtures("models")
def test_features_of_grids_are_taken_a_picture_at_a_time() -> None:
    model, seen = loaded("tiny-scale"), []
    plain = model.features
    model.features = lambda tokens, grids: (seen.append(len(tokens)), plain(tokens, grids))[1]  # type: ignore
    [*model.sample(Request([1, 2, 3], chunk=3))]
    assert set(seen) == {1}


def test_probabilities_are_those_asked_for() -> None:
    logits = torch.tensor([2.0, 0.0, 1.0, -1.0]).expand(1, 4000, 4)
    share = ((torch.arange(4000) + 0.5) / 4000)[None]

    def shares(**options: Any) -> Tensor:
        settled = replace(TokenOptions(), **{"temperature": 1.0, "top_k": 0, "top_p": 1.0} | options)
        return torch.bincount(sample.choose(logits, settled, share).flatten(), minlength=4) / 4000

    soft = logits[0, 0].double().softmax(0)
    assert torch.allclose(shares().double(), soft, atol=5e-4)
    assert torch.allclose(shares(temperature=0.5).double(), (2 * logits[0, 0].double()).softmax(0), atol=5e-4)
    two = torch.tensor([soft[0], 0, soft[2], 0]) / (soft[0] + soft[2])
    assert torch.allclose(shares(top_k=2).double(), two, atol=5e-4)
    assert shares(top_p=0.6).tolist() == [1, 0, 0, 0]  # the likeliest has .64
    assert (shares(top_p=0.7) > 0).tolist() == [True, False, True, False]
    assert shares(temperature=0.0).tolist() == [1, 0, 0, 0]


def test_guidance_leads_away_from_what_is_not_asked_for_and_may_rise() -> None:
    logits = torch.tensor([[[1.0, 0.0]], [[0.0, 0.5]]])
    for options, progress, scale in (
        (TokenOptions(cfg=3), 0.5, 3),
        (TokenOptions(cfg=3, rising=True), 0.5, 2),
        (TokenOptions(cfg=3, rising=True), 1, 3),
    ):
        wanted = logits[1] + scale * (logits[0] - logits[1])
        assert torch.allclose(sample.guided(logits, options, 1, progress)[0], wanted)


# orders ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", [Raster(GRID), Masked(GRID), Scale([(1, 1), (2, 2), (4, 4)])])
@pytest.mark.parametrize("passes", [1, 5, 12, 40])
def test_passes_draw_every_place_once(order: Order, passes: int) -> None:
    parts = order.passes(passes, torch.ones(order.count, dtype=torch.bool))
    assert sorted(torch.cat(parts).tolist()) == [*range(order.count)]
    assert all(len(part) for part in parts)
    if isinstance(order, Masked):
        assert len(parts) == min(passes, order.count)
        sizes = [len(part) for part in parts]
        assert sizes == sorted(sizes) or passes > 5  # few at first


@pytest.mark.parametrize("grid", [(3, 4), (8, 8), (1, 5)])
def test_halton_meets_every_place_and_spreads(grid: tuple[int, int]) -> None:
    order = halton(*grid)
    assert sorted(order.tolist()) == [*range(grid[0] * grid[1])]
    if grid == (8, 8):  # 16 of 64: no empty quadrant of quadrants
        rows, columns = order[:16] // 8 // 4, order[:16] % 8 // 4
        assert torch.bincount(2 * rows + columns).tolist() == pytest.approx([4, 4, 4, 4], abs=1)


def test_places_of_coarser_grids_are_in_cells_of_the_finest() -> None:
    places = Scale([(1, 1), (2, 2), (4, 4)]).places()
    assert places[0].tolist() == [1.5, 1.5]
    assert places[1:5].tolist() == [[0.5, 0.5], [0.5, 2.5], [2.5, 0.5], [2.5, 2.5]]
    assert places[5:].tolist() == [[row, column] for row in range(4) for column in range(4)]


def network(order: Order, codes: int = 7, **changes: Any) -> GPT:
    torch.manual_seed(0)
    config = replace(GPTConfig(32, 2, 2, text="none", dropout=0.0), **changes)
    return GPT(config, codes, order.places(), 3 if isinstance(order, Scale) else 0)


def test_masks_are_of_all_sizes_and_only_they_count() -> None:
    order = Masked([(8, 8)])
    net, tokens = network(order), torch.randint(7, (256, 64))
    lesson = order.training(net, tokens, lambda *_: tokens, Draw(0, 256), 0.5)
    masked = lesson.weight > 0
    hidden = masked.sum(1)
    assert torch.allclose(lesson.weight.sum(1), torch.ones(256))
    assert int(hidden.min()) <= 2
    assert int(hidden.max()) >= 63
    assert float(hidden.float().mean() / 64) == pytest.approx(2 / math.pi, abs=0.02)  # the mean of a cosine's quarter
    nothing, known = net.embed.weight[7], net.embed(tokens)
    assert torch.equal(lesson.elements.known[masked], nothing.expand(int(hidden.sum()), -1))
    assert torch.equal(lesson.elements.known[~masked], known[~masked])


def test_raster_knows_the_token_before_and_random_orders_give_way() -> None:
    order = Raster(GRID, 0.0, (0.25, 0.75))
    net, tokens = network(order), torch.randint(7, (64, 12))
    assert [order.share(progress) for progress in (0.0, 0.2, 0.5, 0.75, 1.0)] == [1.0, 1.0, 0.5, 0.0, 0.0]
    for progress in (0.0, 0.5, 1.0):
        (known, at, blocks), wanted, weight = order.training(net, tokens, lambda *_: tokens, Draw(0, 64), progress)
        assert torch.equal(wanted, tokens.gather(1, at))
        assert blocks.tolist() == [*range(12)]
        assert torch.equal(known[:, 1:], net.embed(wanted[:, :-1]) + net.known_at(at[:, :-1]))
        straight = (at == torch.arange(12)).all(1).float().mean()
        assert float(straight) == pytest.approx(1 - order.share(progress), abs=0.2 * (progress == 0.5))
        assert float(weight.sum()) == pytest.approx(64)


def test_dropped_tokens_are_not_known_to_the_next() -> None:
    order = Raster(GRID, 0.5)
    net, tokens = network(order), torch.randint(7, (64, 12))
    lesson = order.training(net, tokens, lambda *_: tokens, Draw(0, 64), 1.0)
    known = lesson.elements.known[:, 1:] - net.known_at.weight[:-1]
    dropped = (known - net.embed.weight[7]).abs().amax(-1) < 1e-6
    kept = (known - net.embed(tokens[:, :-1])).abs().amax(-1) < 1e-6
    assert (dropped ^ kept).all()
    assert float(dropped.float().mean()) == pytest.approx(0.5, abs=0.08)


def test_a_markov_source_is_learnt_to_its_entropy() -> None:
    """Tokens of a chain with known transitions: what is left to learn is its entropy rate."""
    torch.manual_seed(0)
    order, codes = Raster([(4, 4)]), 5
    change = (2.5 * torch.randn(codes, codes, generator=torch.Generator().manual_seed(1))).softmax(-1)

    def chains(count: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(codes, (count, 16), generator=generator)
        for i in range(1, 16):
            tokens[:, i] = torch.multinomial(change[tokens[:, i - 1]], 1, generator=generator)[:, 0]
        return tokens

    def nats(net: GPT, tokens: Tensor) -> Tensor:
        elements, wanted, weight = order.judging(net, tokens, lambda *_: tokens, Draw(0, len(tokens)))
        each = torch.nn.functional.cross_entropy(net(*elements).transpose(1, 2), wanted, reduction="none")
        return (each * weight).sum(1).mean()

    held = chains(4096, 1)
    entropy = -(change.log()[held[:, :-1], held[:, 1:]].sum(1) - math.log(codes)).mean() / 16  # of this very sample
    net = network(order, codes)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(220):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * min(1, 2 * (1 - step / 220))
        optimiser.zero_grad()
        nats(net, chains(128, 100 + step)).backward()
        optimiser.step()
    with torch.no_grad():
        learnt = float(nats(net.eval(), held))
    assert learnt == pytest.approx(float(entropy), rel=0.02)
    assert learnt < 0.9 * math.log(codes)


# likelihood -----------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("name", NAMES)
def test_likelihoods_add_up_to_one(name: str) -> None:
    """Over all tokens of a picture of two or three: the sum of their probabilities."""
    model = loaded(name)
    grids = [(1, 1), (1, 1)] if name == "tiny-scale" else [(1, 3)]
    order = {Raster: Raster, Masked: Masked, Scale: Scale}[type(model.order)](grids)
    net = network(order, 4)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.net, model.order = net.eval(), order
    vectors = torch.randn(4, 3)
    model.features = lambda tokens, grids: vectors[tokens[:, 0]][..., None, None]  # type: ignore[method-assign]
    every = torch.cartesian_prod(*[torch.arange(4)] * order.count)
    for passes in (1, 2, 3):
        total = (-model.nats(every, (), passes)).exp().sum()
        assert float(total) == pytest.approx(1, abs=1e-6)


@pytest.mark.usefixtures("models")
def test_nats_are_those_of_the_passes_that_draw() -> None:
    """A picture's tokens, drawn again and again, come as often as their likelihood says: here of the first pass."""
    model = loaded("tiny-ar")
    part = model.order.passes(12, torch.ones(64, dtype=torch.bool))[0]
    conditions = model.conditions([""])
    elements = model.order.elements(model.net, torch.zeros(1, 64).long(), torch.zeros(64).bool(), part, model.features)
    wanted = model.net(*elements, *conditions)[0, part].softmax(-1)
    drawn = tokens_of(model, [*range(300)], [""] * 300, passes=12)[:, part]
    for place in range(len(part)):
        found = torch.bincount(drawn[:, place], minlength=12) / 300
        assert float((found - wanted[place]).abs().max()) < 0.1


# pictures that are given ----------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("models")
def test_what_the_mask_does_not_touch_stays() -> None:
    model = loaded("tiny-ar")
    picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.zeros(1, 32, 32)
    mask[:, 9:15, 17:19] = 1
    tokens, redrawn = model.edited(Edit(picture, mask=mask))
    assert redrawn.view(8, 8).nonzero().tolist() == [[2, 4], [3, 4]]
    drawn = [*model.sample(Request([3], edit=Edit(picture, mask=mask)))][-1].pictures[0]
    assert torch.equal(drawn[:, mask[0] == 0], picture[:, mask[0] == 0])
    assert not torch.equal(drawn, picture)
    settled = TokenOptions().settled(model.document(), False)
    *_, (after, *_) = sample.draw(
        model.net, pack(model.net, torch.float32), model.order, settled, model.conditions([""]),
        picture_noise([3], (64,)), model.features, tokens, redrawn,
    )  # fmt: skip
    assert torch.equal(after[0, ~redrawn], tokens[0, ~redrawn])
    assert not torch.equal(after, tokens)


@pytest.mark.usefixtures("models")
def test_strength_is_the_share_of_tokens_drawn_anew() -> None:
    picture = torch.zeros(3, 32, 32)
    for name in ("tiny-ar", "tiny-raster"):
        model = loaded(name)
        shares = [int(model.edited(Edit(picture, strength=s))[1].sum()) for s in (0.01, 0.5, 1.0)]
        assert shares == [1, 32, 64]
    assert model.edited(Edit(picture, strength=0.25))[1].nonzero()[:, 0].tolist() == [*range(48, 64)]


@pytest.mark.usefixtures("models")
def test_a_mask_of_nothing_leaves_the_picture() -> None:
    for name in ("tiny-ar", "tiny-raster"):
        model, picture = loaded(name), torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
        drawn = [*model.sample(Request([3], edit=Edit(picture, mask=torch.zeros(1, 32, 32))))][-1].pictures[0]
        assert torch.equal(drawn, picture)


@pytest.mark.usefixtures("models")
def test_row_by_row_only_a_lower_part_is_redrawn() -> None:
    model, picture = loaded("tiny-raster"), torch.zeros(3, 32, 32)
    mask = torch.zeros(1, 32, 32)
    mask[:, 16:] = 1
    assert [*model.sample(Request([3], ["red"], edit=Edit(picture, mask=mask)))][-1].pictures.shape == (1, 3, 32, 32)
    with pytest.raises(UsageError, match="row by row"):
        [*model.sample(Request([3], ["red"], edit=Edit(picture, mask=1 - mask)))]
    assert not {"image", "mask"} & loaded("tiny-scale").can


@pytest.mark.usefixtures("models")
def test_guesses_on_the_way_show_what_is_there() -> None:
    model = loaded("tiny-ar")
    parts = [*model.sample(Request([1], options=TokenOptions(passes=6)))]
    assert [(part.step, part.steps, part.final) for part in parts] == [
        *((k, 6, False) for k in range(1, 6)), (6, 6, True),
    ]  # fmt: skip
    guess, end = parts[-2].pictures, parts[-1].pictures
    assert float((guess - end).abs().max()) > 0


# training -------------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("name", NAMES)
def test_training_learns_and_a_step_is_split_into_parts(name: str, tmp_path: Path) -> None:
    model = loaded(name).train()
    model.requires_grad_(True)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    pictures = load(shape_folder(tmp_path), Size(32, 32), DataConfig(held_out=0.0))
    if model.condition == "class":
        for entry in pictures.entries:
            object.__setattr__(entry, "concept", "red" if "red" in entry.concept else "green")
    source = model.source(pictures, model.device)
    rows = torch.arange(8)
    batch = source.batch(rows, Draw(0, 8))
    ((phase, loss, _),) = model.training_step(batch, Draw(1, 8), 0.5)
    halves = []
    for start in (0, 4):
        part = {key: value[start : start + 4] for key, value in batch.items()}
        halves += [value for _, value, _ in model.training_step(part, Draw(1, 8).part(start, start + 4), 0.5)]
    assert phase == "model"
    assert sum(halves).item() / 2 == pytest.approx(loss.item(), rel=1e-5)
    optimiser = torch.optim.Adam(model.net.parameters(), lr=3e-3)
    first = None
    for step in range(40):
        ((_, loss, _),) = model.training_step(batch, Draw(step, 8), 0.5)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first = first or loss.item()
    assert loss.item() < 0.7 * first  # type: ignore[operator]


@pytest.mark.usefixtures("models")
def test_configurations_that_cannot_be_are_refused() -> None:
    known = {"codes": 12, "factor": 4, "width": 2, "codec": "tiny-vq"}
    for changes, said in (
        ({"order": "scale", "sides": ()}, "several grids"),
        ({"order": "masked", "sides": (1, 8)}, "one grid"),
        ({"sides": None}, "open"),
        ({"sides": (), "architecture": GPTConfig(text="none")}, "model.condition"),
        ({"sides": (), "pixels": 30}, "do not divide"),
        ({"order": "scale", "sides": (1, 2, 4)}, "another size"),
    ):
        with pytest.raises(UsageError, match=said):
            AR(ARConfig(**{"pixels": 32} | known | changes))
    with pytest.raises(ModelError, match="cannot be the codec"):
        AR.settled(ARConfig(codec="tiny-vae"))
    raster = AR(AR.settled(ARConfig(32, codec="tiny-vq-grids", order="raster")))
    assert "image" in raster.can
    assert "mask" not in raster.can
    settled = AR.settled(ARConfig(32, codec="tiny-vq-grids"))
    assert (settled.codes, settled.factor, settled.width, settled.sides) == (16, 4, 4, (1, 2, 8))
    with pytest.raises(ModelError, match="names none"):
        AR(ARConfig(32, "class", codec="tiny-vq", codes=12, factor=4, width=2, sides=())).conditions(["red"])
    other = AR(ARConfig(32, codec="tiny-vq", codes=13, factor=4, width=2, sides=()))
    with pytest.raises(ModelError, match="12 codes of 2 numbers at 1/4"):
        other.codec()
