"""A denoising loop's step as a CUDA graph: its few hundred small kernels are launched as one.

A graph replays fixed addresses. So what changes from step to step (x_t, the rows of the time) is copied into static
inputs, and what changes from prompt to prompt (text keys and values) into the buffers of the loop that was captured:
one capture a shape serves a whole process. Where capturing fails the step runs as it is; the picture is the same.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genctl.nets.dit_sample import Loop

WARM_UPS = 3  # runs before a capture, in which libraries choose kernels and take their workspaces


class GraphLoop:
    """Called like the `Loop` it was made of; `take` gives it the conditions of another one of the same shape."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.steps: dict[bool, Callable[..., Tensor]] = {}  # guided or not -> step on copies of (x_t, rows, last rows)

    def take(self, loop: Loop) -> GraphLoop:
        """Go on with the conditions and times of `loop`, which has this one's shape."""
        self.loop.modulations = loop.modulations
        if self.loop.keys is not None and loop.keys is not None:
            self.loop.keys.copy_(loop.keys)
        return self

    def __call__(self, x_t: Tensor, k: int, both: bool) -> Tensor:
        inputs = (x_t, *self.loop.rows_of(k, both))
        if both not in self.steps:
            try:
                self.steps[both] = capture(self.loop.step, *inputs)
            except RuntimeError:
                self.steps[both] = self.loop.step
        return self.steps[both](*inputs)


def capture(function: Callable[..., Tensor], *inputs: Tensor) -> Callable[..., Tensor]:
    """`function` of CUDA tensors as a graph: the result is called with tensors of the same shapes and returns what
    `function` would, as long as all else that it reads stays where it is. Raises RuntimeError where it cannot be."""
    static = [tensor.clone() for tensor in inputs]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            function(*static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = function(*static)

    def replay(*new: Tensor) -> Tensor:
        for buffer, values in zip(static, new, strict=True):
            buffer.copy_(values)
        graph.replay()
        return out.clone()

    return replay
