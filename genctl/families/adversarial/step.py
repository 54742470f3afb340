"""A training step of both networks: the critic's loss, then the generator's. Pure in (weights, batch, draw, progress)
but for the share of disturbed pictures where that adapts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from genctl.families.adversarial.augment import augment, change_of_share, numbers
from genctl.families.adversarial.generator import Generator
from genctl.families.adversarial.losses import OBJECTIVES, Objective, one_centred, zero_centred
from genctl.families.adversarial.settings import GANConfig, LossConfig, between
from genctl.families.base import Losses
from genctl.nets.critics import Critic
from genctl.rng import Draw

Batch = dict[str, Tensor]


class Players(Protocol):
    """Who plays, by what rules."""

    net: Generator
    critic: Critic
    config: GANConfig


def losses(players: Players, batch: Batch, draw: Draw, progress: float) -> Losses:
    """("critic", loss, figures), then ("model", loss, figures). batch: x [B, C, S, S], and where there is a condition
    `pooled` [B, T] with `present` [B, L] and, of another row, `other` [B, T]."""
    config, critic, net = players.config.loss, players.critic, players.net
    objective = OBJECTIVES[config.objective]
    c = condition(net, batch, config.condition_dropout, draw)
    asked = None if c is None else c.detach()  # the learned empty condition is the generator's
    share = float(critic.share.clamp_(0, 1)) if config.adapt else between(config.augment, config.burn_in, progress)
    disturbance = numbers(draw)

    def seen(x: Tensor) -> Any:
        return critic.see(augment(x, disturbance, share))

    def opinion(x: Tensor) -> Tensor:
        return critic.judge(seen(x), asked).float()

    with torch.no_grad():
        fake = drawn(net, c, draw, config.mixing)
    weight = config.every * between(config.penalty, config.burn_in, progress)
    penalised = weight > 0 and int(torch.randint(config.every, (), generator=draw.step("penalty"))) == 0
    real, fake = (x.detach().requires_grad_(penalised) for x in (batch["x"], fake))
    sight = seen(real)
    on_real, on_fake = critic.judge(sight, asked).float(), opinion(fake)
    loss = objective.critic(on_real, on_fake).mean()
    if "other" in batch and config.mismatch:
        wrong = critic.judge(sight, batch["other"]).float()
        loss = loss + config.mismatch * mismatch(objective, on_real, wrong, batch, asked)
    penalty = loss.new_zeros(())
    if penalised and objective.centre:
        penalty = one_centred(opinion, real, fake, draw.uniform()).mean()
    elif penalised:
        penalty = penalty + sum(slopes(config, (on_real, real), (on_fake, fake)))
    sign = (on_real - on_fake).detach().sign().mean()
    figures = {"sign": sign} | ({"penalty": penalty.detach()} if penalised else {})
    yield "critic", loss + weight * penalty, figures
    if config.adapt:  # linear in sign and rows, so that the parts of a batch add up
        critic.share.add_(change_of_share(float(sign), len(real), config.adapt))
    made = drawn(net, c, draw, config.mixing)
    with frozen(critic):
        on_real = opinion(real.detach()).detach() if objective.paired else on_real.detach()
        loss = objective.generator(on_real, opinion(made)).mean()
    yield "model", loss, {"augmented": loss.new_tensor(share)}


def condition(net: Generator, batch: Batch, dropout: float = 0.0, draw: Draw | None = None) -> Tensor | None:
    """Vectors [B, T] that are asked for: the learned one where there is nothing, or where it is left out."""
    if "pooled" not in batch:
        return None
    given = batch["present"].any(-1, keepdim=True)
    if draw is not None:
        given = given & (draw.uniform(1) >= dropout)
    return torch.where(given, batch["pooled"], net.empty_pooled.to(batch["pooled"].dtype))


def mismatch(objective: Objective, on_real: Tensor, wrong: Tensor, batch: Batch, asked: Tensor | None) -> Tensor:
    """The critic's loss where real pictures under another's condition, with opinions `wrong`, stand for the fakes."""
    assert asked is not None
    differs = (batch["other"] != batch["pooled"]).any(1) & (asked == batch["pooled"]).all(1)  # nor where it is left out
    loss = objective.critic(on_real, wrong)
    return (loss.flatten(1).mean(1) if loss.ndim > 1 else loss).mul(differs).mean()


def slopes(config: LossConfig, real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor]) -> list[Tensor]:
    """R1 and R2 as far as they are wanted, of (opinions, x)."""
    return [zero_centred(*one).mean() for wanted, one in ((config.on_real, real), (config.on_fake, fake)) if wanted]


def drawn(net: Generator, c: Tensor | None, draw: Draw, mixing: float = 0.0) -> Tensor:
    """x of fresh noise; of a share `mixing` of them the later layers take the style of another one
    (arXiv:1812.04948)."""
    z = draw.normal(net.latent)
    if not net.styled:
        return net(z, c).float()
    count = net.synthesis.count
    w, other = net.styles(net.mapping(z, c)), net.styles(net.mapping(draw.normal(net.latent), c))
    cut = 1 + (draw.uniform() * (count - 1)).long()
    cut = torch.where(draw.uniform() < mixing, cut, count)
    later = torch.arange(count, device=w.device) >= cut[:, None]
    noises = [draw.normal(1, side, side) for side in net.synthesis.sides()]
    return net.synthesis(torch.where(later[..., None], other, w), noises).float()


@torch.no_grad()
def sign_of(players: Players, batch: Batch, draw: Draw) -> Tensor:
    """Mean sign of the critic's preference for real over drawn x: 1 where it is never mistaken, about 0 where it cannot
    tell (the statistic of ADA, arXiv:2006.06676, relative)."""
    c = condition(players.net, batch)
    made = drawn(players.net, c, draw)
    return (players.critic(batch["x"], c).float() - players.critic(made, c).float()).sign().mean()


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Within it no gradient is kept for the network's own parameters."""
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
