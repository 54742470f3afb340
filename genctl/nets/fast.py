"""What is fast on this machine: one place that knows, probes once, and falls back to plain torch.

On CPUs, oneDNN's linear layer beats MKL's twofold in fp32 and, with packed weights, bf16's plain one by a tenth; and
attention in bf16 by two batched products beats the fused kernel 2.5-fold at a few hundred tokens. On a GPU the fused
kernels win. All are checked against the plain forms in tests; docs/measured.md has the figures.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

Module = TypeVar("Module", bound=torch.nn.Module)
Linear = Callable[[Tensor], Tensor]
SCORES_MOST = 1024  # keys; beyond, the stored scores outgrow the cache


def channels_last(module: Module) -> Module:
    """The module with its kernels in the order that convolutions on CPUs (without group norms) and GPUs like best."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def keep_memory() -> None:
    """Tell glibc to keep freed memory: large buffers are otherwise returned and faulted in again at each step, which
    costs training on a CPU some 7 %. Does nothing elsewhere."""
    import ctypes

    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mmap_threshold, trim_threshold = -3, -1
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)


def bf16_pays(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32 on this device: as the GPU says, or the CPU's flags."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _cpu_bf16_pays()


@functools.cache
def _cpu_bf16_pays() -> bool:
    if not _mkldnn("_linear_pointwise") or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    cpuinfo = Path("/proc/cpuinfo")  # elsewhere fp32: a timed choice could differ from one run to the next
    flags = cpuinfo.read_text(errors="replace") if cpuinfo.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _mkldnn(name: str) -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, name)


@functools.cache
def packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN's packed linear exists here and agrees with the plain one on a small product."""
    if dtype not in (torch.float32, torch.bfloat16) or not _mkldnn("_reorder_linear_weight"):
        return False
    try:
        x = torch.linspace(-1, 1, 4 * 64).reshape(4, 64).to(dtype)
        weight = torch.linspace(1, -1, 64 * 64).reshape(64, 64).to(dtype)
        with torch.inference_mode():
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
            got = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
        return torch.allclose(got.float(), F.linear(x, weight).float(), rtol=0.05, atol=0.05)
    except RuntimeError:
        return False


def linear(weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Linear:
    """x [..., K] -> activation(x weight^T + bias) [..., N] for inference; activation is "none" or "swish" (SiLU).

    weight [N, K]; packed on CPUs.
    """
    if weight.device.type != "cpu" or not packs(weight.dtype):
        if activation == "swish":
            return lambda x: F.silu(F.linear(x, weight, bias))
        return lambda x: F.linear(x, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
    call = torch.ops.mkldnn._linear_pointwise.default
    return lambda x: call(x, packed, bias, activation, [], "")


def linear_times(weight: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """(x [..., K], other [..., N]) -> (x weight^T) * other: the second half of a gated layer in one call."""
    if weight.device.type != "cpu" or not packs(weight.dtype):
        return lambda x, other: F.linear(x, weight) * other
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
    call = torch.ops.mkldnn._linear_pointwise.binary
    return lambda x, other: call(x, other, packed, None, "mul")


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v. q [B, H, N, d], k and v [B, H, M, d] -> [B, H, N, d]. Differentiable."""
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or k.shape[2] > SCORES_MOST:
        return F.scaled_dot_product_attention(q, k, v)
    batch, heads, count, depth = q.shape
    scores = torch.bmm((q * depth**-0.5).flatten(0, 1), k.flatten(0, 1).transpose(1, 2))
    return torch.bmm(scores.softmax(-1), v.flatten(0, 1)).reshape(batch, heads, count, depth)
