"""Wan 2.1's video codec (arXiv:2503.20314, Apache-2.0) as networks of nets/causal.py: its shape, and which of its
tensors is which of ours. The table reads the names of the published safetensors file (its folder `vae`).

A kernel [C', C, 3, 3, 3] is cut into slices of the past and of the present, one over three frames alone
[C', C, 3, 1, 1] laid out frame by frame.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from genctl.nets.causal import Attention, Block, Conv, Decoder, Doubled, Encoder, Halved, Last

SHAPE = {
    "kind": "wan", "channels": (96, 192, 384, 384), "encoder_blocks": (2, 2, 2, 2), "decoder_blocks": (3, 3, 3, 3),
    "times": (False, True, True), "pasts": (3, 3, 3, 3), "latent": 16,
}  # fmt: skip
MEAN = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632, -0.1922,
        -0.9497, 0.2503, -0.2921)  # fmt: skip
STD = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253,
       2.8251, 1.9160)  # fmt: skip


def from_wan(encoder: Encoder, decoder: Decoder, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The networks' tensors, named `encoder.` and `decoder.`, out of Wan's. Raises KeyError for one that is missing."""
    made: dict[str, Tensor] = {}
    for ours, name, layer in [
        *_pairs("encoder", encoder, "quant_conv"),
        *_pairs("decoder", decoder, "post_quant_conv"),
    ]:
        made |= {f"{ours}.{key}": value for key, value in _layer(layer, name, theirs).items()}
    return made


def _pairs(side: str, net: Encoder | Decoder, mix: str) -> Iterator[tuple[str, str, nn.Module]]:
    """(our name, Wan's, the layer) of each layer of a network."""
    down, level, block, middle = 0, 0, 0, 0
    before_middle = side == "decoder"
    for place, layer in enumerate(net.layers):
        ours, in_middle = f"{side}.layers.{place}", _in_middle(net, place)
        if isinstance(layer, Last):
            name = side
        elif place == 0:
            name = f"{side}.conv_in"
        elif in_middle:
            name = f"{side}.mid_block." + ("attentions.0" if isinstance(layer, Attention) else f"resnets.{middle}")
            middle += isinstance(layer, Block)
        elif not before_middle:
            name, down = f"{side}.down_blocks.{down}", down + 1
        elif isinstance(layer, Doubled):
            name, level, block = f"{side}.up_blocks.{level}.upsamplers.0", level + 1, 0
        else:
            name, block = f"{side}.up_blocks.{level}.resnets.{block}", block + 1
        yield ours, name, layer
    assert net.mix is not None
    yield f"{side}.mix", mix, net.mix


def _in_middle(net: Encoder | Decoder, place: int) -> bool:
    """Whether a layer is one of the two blocks around the attention, or that."""
    around = [net.layers[near] for near in (place - 1, place, place + 1) if 0 <= near < len(net.layers)]
    return any(isinstance(layer, Attention) for layer in around)


def _layer(layer: nn.Module, name: str, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    if isinstance(layer, Block):
        parts = {"first": _conv(theirs, f"{name}.conv1"), "second": _conv(theirs, f"{name}.conv2")}
        if layer.shortcut is not None:
            parts["shortcut"] = _conv(theirs, f"{name}.conv_shortcut")
        gains = {f"norms.{i}.gain": theirs[f"{name}.norm{i + 1}.gamma"].flatten() for i in range(2)}
        return gains | {f"{part}.{key}": value for part, found in parts.items() for key, value in found.items()}
    if isinstance(layer, Last):
        conv = _conv(theirs, f"{name}.conv_out")
        return {"norm.gain": theirs[f"{name}.norm_out.gamma"].flatten()} | {f"conv.{k}": v for k, v in conv.items()}
    if isinstance(layer, Attention):
        made = {"norm.gain": theirs[f"{name}.norm.gamma"].flatten()}
        for ours, their in (("qkv", "to_qkv"), ("out", "proj")):
            made |= {f"{ours}.{leaf}": theirs[f"{name}.{their}.{leaf}"] for leaf in ("weight", "bias")}
        return made
    if isinstance(layer, (Halved, Doubled)):
        made = {f"space.{leaf}": theirs[f"{name}.resample.1.{leaf}"] for leaf in ("weight", "bias")}
        if layer.time is not None:
            weight = theirs[f"{name}.time_conv.weight"][..., 0, 0]  # [C', C, 3]
            made["time.weight"] = weight.transpose(1, 2).flatten(1)[..., None, None]
            made["time.bias"] = theirs[f"{name}.time_conv.bias"]
        return made
    assert isinstance(layer, Conv)
    return _conv(theirs, name)


def _conv(theirs: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    *past, present = theirs[f"{name}.weight"].unbind(2)
    made = {"weight": present, "bias": theirs[f"{name}.bias"]}
    return made | ({"past": torch.stack(past)} if past else {})
