"""Every draw is a pure function of its address."""

import pytest
import torch

from genctl import rng, seeds
from genctl.errors import UsageError


def test_a_picture_does_not_depend_on_its_batch() -> None:
    together = rng.picture_noise([5, 6, 7], (2, 3))
    assert torch.equal(together[1:2], rng.picture_noise([6], (2, 3)))
    assert not torch.equal(together[0], together[1])


def test_equal_weights_walk_through_whole_epochs() -> None:
    weights = torch.ones(10)
    seen = torch.cat([rng.rows(3, step, 4, weights) for step in range(5)])  # 20 rows = two epochs
    assert sorted(seen[:10].tolist()) == list(range(10))
    assert sorted(seen[10:].tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()


def test_a_batch_larger_than_the_data() -> None:
    rows = rng.rows(0, 0, 25, torch.ones(10))
    assert sorted(rows.tolist()) == sorted([*range(10), *range(10), *rows[20:].tolist()])


def test_a_step_can_be_entered_at_any_time() -> None:
    weights = torch.tensor([1.0, 0.1, 2.0])
    for w in (weights, torch.ones(3)):
        assert torch.equal(rng.rows(1, 17, 8, w), rng.rows(1, 17, 8, w))
        assert not torch.equal(rng.rows(1, 17, 8, w), rng.rows(2, 17, 8, w))


def test_weights_are_shares() -> None:
    weights = torch.tensor([1.0, 0.1, 0.0])
    rows = torch.cat([rng.rows(0, step, 1000, weights) for step in range(10)])
    share = (rows == 1).float().mean()
    assert abs(float(share) - 0.1 / 1.1) < 0.01
    assert not (rows == 2).any()


def test_a_part_of_a_batch_draws_what_it_draws_in_the_whole() -> None:
    whole, part = rng.Draw(5, 10), rng.Draw(5, 10).part(3, 7)
    for name, shape in (("strata", ()), ("normal", (2, 3)), ("uniform", (4,)), ("normal", ())):
        assert torch.equal(getattr(whole, name)(*shape)[3:7], getattr(part, name)(*shape))
    assert torch.equal(torch.rand(3, generator=whole.step("a")), torch.rand(3, generator=part.step("a")))
    assert not torch.equal(torch.rand(3, generator=whole.step("a")), torch.rand(3, generator=whole.step("b")))


def test_strata_have_one_draw_each() -> None:
    drawn = rng.Draw(1, 16).strata()
    assert (drawn * 16).long().sort().values.tolist() == list(range(16))
    assert (drawn * 16).long().tolist() != list(range(16))


def test_seeds_as_people_write_them() -> None:
    assert seeds.parse_seeds("3,7,10-12") == [3, 7, 10, 11, 12]
    for wrong in ("", "a", "5-3", "1,,2", "0-99999999"):
        with pytest.raises(UsageError, match="--seeds"):
            seeds.parse_seeds(wrong)
