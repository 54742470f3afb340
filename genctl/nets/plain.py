"""Any network as a step function for sampling, without preparation: the counterpart of nets/dit_sample.py's `Loop`."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PlainLoop:
    """One denoising loop over `pictures` pictures by net(x_t, t, *conditions, scalars=...); see `Loop` for the
    conditions, whose rows are as many as the pictures or a multiple of that. times: [K] evaluation times, scalars:
    [K, S] what the network is conditioned on at each."""

    def __init__(
        self, net: nn.Module, dtype: torch.dtype, pictures: int, times: Tensor, *conditions: Tensor,
        scalars: Tensor | None = None,
    ) -> None:  # fmt: skip
        self.net, self.dtype, self.pictures = net, dtype, pictures
        device = next(net.parameters()).device
        self.times = times.to(device, torch.float32)
        self.scalars = None if scalars is None else scalars.to(device, torch.float32)
        self.conditions = [part.to(dtype) if part.is_floating_point() else part for part in conditions]
        self.rows = len(self.conditions[0]) if self.conditions else pictures

    def __call__(self, x_t: Tensor, k: int, every: bool) -> Tensor:
        """x_t [B, ...] at the k-th time -> predictions [B, ...], or for `every` row of the conditions."""
        rows = self.rows if every else self.pictures
        x_t = x_t.to(self.dtype).repeat(rows // len(x_t), *[1] * (x_t.ndim - 1))
        inputs = [x_t, self.times[k].expand(rows), *(part[:rows] for part in self.conditions)]
        further = {} if self.scalars is None else {"scalars": self.scalars[k].expand(rows, -1)}
        if x_t.device.type != "cpu":
            return self.net(*inputs, **further).float()
        # a row at a time: on a CPU a convolution's rounding may depend on the batch that it is in
        one = {name: value[:1] for name, value in further.items()}
        return torch.cat([self.net(*(part[row : row + 1] for part in inputs), **one) for row in range(rows)]).float()
