"""Tokens of noise, pass by pass. Token i of a picture is chosen by the i-th of the picture's random numbers, whatever
is drawn beside it: where a CPU's kernels round a picture by its batch, each picture runs alone. (A GPU's rounding may
differ with the batch, and a token that hangs on it, with all that follow.) What is random happens on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from genctl.families.tokens.orders import Features, Order
from genctl.families.tokens.settings import TokenOptions
from genctl.nets.gpt import GPT
from genctl.nets.gpt_sample import Cached, Packed

PROBED = 3  # first passes of a trial, beside the last
COLDEST = 1e-6  # temperature below which the likeliest token is taken


def draw(
    net: GPT, packed: Packed, order: Order, options: TokenOptions, conditions: tuple[Tensor, ...], numbers: Tensor,
    features: Features, given: Tensor | None = None, redrawn: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor, int, int]]:  # fmt: skip
    """(tokens [B, N], which are known [N], pass, passes) after each pass. numbers: standard normal [B, N]; conditions
    of B rows, or of 2 B where options.cfg guides; given: tokens [B, N] of which `redrawn` [N] are drawn anew."""
    device = net.places.device
    tokens = torch.zeros(numbers.shape, dtype=torch.long, device=device) if given is None else given.clone()
    wanted = torch.ones(net.count, dtype=torch.bool) if redrawn is None else redrawn.cpu()
    parts = order.passes(options.passes, wanted)
    share = torch.special.ndtr(numbers.cpu().double())
    known = ~wanted.to(device)
    loop = new_loop(net, packed, len(tokens), conditions)
    for place, part in enumerate(parts):
        part = part.to(device)
        elements = order.elements(net, tokens, known, part, features)
        at = elements.at[0]
        logits = loop(elements.known, at, keep=order.cached)
        logits = logits if order.cached else logits[:, part]
        progress = place / (len(parts) - 1) if len(parts) > 1 else 1.0
        logits = guided(logits, options, len(tokens), progress).cpu()
        chosen = choose(logits, options, share[:, part.cpu()]).to(device)
        fresh = wanted.to(device)[part]
        tokens[:, part] = torch.where(fresh, chosen, tokens[:, part])
        known = known.clone()
        known[part] = True
        yield tokens, known, place + 1, len(parts)


def new_loop(net: GPT, packed: Packed, pictures: int, conditions: tuple[Tensor, ...]) -> Cached:
    return Cached(net, packed, len(conditions[0]) if conditions else pictures, *conditions)


def guided(logits: Tensor, options: TokenOptions, pictures: int, progress: float) -> Tensor:
    """Logits [R, n, V] -> [B, n, V], away from the unconditional ones where there are such (R = 2 B)."""
    if len(logits) == pictures or options.cfg is None:
        return logits
    with_text, without = logits.split(pictures)
    scale = 1 + (options.cfg - 1) * progress if options.rising else options.cfg
    return without + scale * (with_text - without)


def choose(logits: Tensor, options: TokenOptions, share: Tensor) -> Tensor:
    """Tokens [B, n] of logits [B, n, V]: where the running sum of the probabilities, the likeliest first, passes
    `share` [B, n] in (0, 1)."""
    if not options.temperature or options.temperature < COLDEST:
        return logits.argmax(-1)
    probability, token = (logits.double() / options.temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
    if options.top_k:
        probability[..., options.top_k :] = 0
    if options.top_p is not None and options.top_p < 1:
        before = probability.cumsum(-1) - probability
        probability = torch.where(before < options.top_p, probability, 0)
    upto = probability.cumsum(-1)
    place = (upto <= share[..., None] * upto[..., -1:]).sum(-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    return token.gather(-1, place)[..., 0]


def rounds_alike(
    net: GPT, packed: Packed, order: Order, options: TokenOptions, conditions: tuple[Tensor, ...], features: Features,
    pictures: int,
) -> bool:  # fmt: skip
    """Whether each of so many pictures, drawn together, gets the very logits that it would get alone; tried on the
    first passes and the last one, at their real sizes."""
    device, generator = net.places.device, torch.Generator().manual_seed(0)
    tokens = torch.randint(net.codes, (pictures, net.count), generator=generator).to(device)
    known = torch.zeros(net.count, dtype=torch.bool, device=device)
    parts = order.passes(options.passes, torch.ones(net.count, dtype=torch.bool))
    together = new_loop(net, packed, pictures, conditions)
    rows = [torch.arange(i, together.rows, pictures) for i in range(pictures)]
    alone = [new_loop(net, packed, 1, tuple(part[row] for part in conditions)) for row in rows]
    for part in [*parts[:PROBED], *parts[PROBED:][-1:]]:
        elements = order.elements(net, tokens, known, part.to(device), features)
        logits = together(elements.known, elements.at[0], keep=order.cached)
        for i, loop in enumerate(alone):
            one = order.elements(net, tokens[[i]], known, part.to(device), features)
            if not torch.equal(logits[rows[i]], loop(one.known, one.at[0], keep=order.cached)):
                return False
        known[part.to(device)] = True
    return True
