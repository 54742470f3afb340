"""A codec with more residual blocks than the one that it begins from, and the same codes and pictures.

    python examples/weights/deepen.py vae --encoder 1 1 2 --decoder 1 2 3 -o runs/deeper
    genctl train --model vae --init runs/deeper --set model.net.encoder_blocks=[1,1,2] ...

Each level keeps its blocks and gains new ones behind them, whose last convolution is zero: they begin as the identity.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import cast

from torch import nn

from genctl.families.saved import kept, load, save
from genctl.families.vae import VAE
from genctl.nets.autoencoder import Residual


def fill(new: nn.Sequential, old: nn.Sequential) -> None:
    """The layers of `old`, in order; residual blocks of `new` beyond those of a level are left as they are."""
    layers = iter(old)
    waiting = next(layers, None)
    for layer in new:
        if isinstance(layer, Residual) and not isinstance(waiting, Residual):
            continue
        if waiting is None or type(layer) is not type(waiting):
            raise SystemExit("a level cannot have fewer blocks than it had")
        layer.load_state_dict(waiting.state_dict())
        waiting = next(layers, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name, run folder or file of a vae")
    parser.add_argument("--encoder", type=int, nargs="+", required=True, metavar="BLOCKS", help="of each level")
    parser.add_argument("--decoder", type=int, nargs="+", required=True, metavar="BLOCKS", help="of each level")
    parser.add_argument("-o", "--out", type=Path, required=True, help="run folder")
    options = parser.parse_args()
    old = cast(VAE, load(options.model))
    net = replace(old.config.net, encoder_blocks=tuple(options.encoder), decoder_blocks=tuple(options.decoder))
    new = VAE(replace(old.config, net=net))
    fill(new.encoder.layers, old.encoder.layers)
    fill(new.decoder.layers, old.decoder.layers)
    new.code_mean, new.code_std = old.code_mean, old.code_std
    options.out.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.half() for key, value in kept(new, new.state_dict()).items()}
    save(new, options.out / "model.safetensors", tensors, {"title": f"{options.model}, deepened"})


if __name__ == "__main__":
    main()
