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


class Captured:
    """The step of a loop as graphs, by whether it is guided; `holder` is whose conditions its buffers hold."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.steps: dict[bool, Callable[..., Tensor]] = {}  # on copies of (x_t, rows, last rows)
        self.holder: GraphLoop | None = None


class GraphLoop:
    """Called like the `Loop` it is made of. Those of one shape share what was `captured`, into whose buffers each puts
    its own conditions when another has used it: several drawings may go on in turns."""

    def __init__(self, loop: Loop, captured: Captured | None = None) -> None:
        self.captured = captured or Captured(loop)
        self.modulations = loop.modulations
        self.keys = loop.keys if captured or loop.keys is None else loop.keys.clone()  # the loop's own are the buffer

    def __call__(self, x_t: Tensor, k: int, both: bool) -> Tensor:
        loop, steps = self.captured.loop, self.captured.steps
        if self.captured.holder is not self:
            loop.modulations, self.captured.holder = self.modulations, self
            if loop.keys is not None and self.keys is not None:
                loop.keys.copy_(self.keys)
        inputs = (x_t, *loop.rows_of(k, both))
        if both not in steps:
            try:
                steps[both] = capture(loop.step, *inputs)
            except RuntimeError:
                steps[both] = loop.step
        return steps[both](*inputs)


def capture(function: Callable[..., Tensor], *inputs: Tensor) -> Callable[..., Tensor]:
    """`function` of CUDA tensors as a graph: the result is called with tensors of the same shapes and returns what
    `function` would, as long as all else that it reads stays where it is. Raises RuntimeError where it cannot be."""
    static = [tensor.clone() for tensor in inputs]
    device = inputs[0].device
    with torch.cuda.device(device):  # streams are of the current device, whatever the tensors' is
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                function(*static)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            out = function(*static)

    def replay(*new: Tensor) -> Tensor:
        with torch.cuda.device(device):
            for buffer, values in zip(static, new, strict=True):
                buffer.copy_(values)
            graph.replay()
            return out.clone()

    return replay
