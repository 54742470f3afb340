"""Guidance: from predictions with and without the condition to one prediction.

Classifier-free guidance (arXiv:2207.12598) extrapolates, uncond + w (cond - uncond); w = 1 is the plain conditional
prediction. Limited to an interval of t (arXiv:2404.07724) it costs less and keeps variety: at the noisiest times it
narrows the layout, at the cleanest it does nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Predict = Callable[[Tensor, int, bool], Tensor]  # (x_t [B, ...], k, both) -> [B, ...], or [2 B, ...]: cond, uncond


def classifier_free(predict: Predict, scale: float, active: list[bool]) -> Callable[[Tensor, int], Tensor]:
    """A guided prediction (x_t, k) -> [B, ...]. `active[k]` says whether the k-th evaluation is guided; both halves go
    through the network in one batch, and outside of the interval only the conditional one does."""

    def guided(x_t: Tensor, k: int) -> Tensor:
        if scale == 1 or not active[k]:
            return predict(x_t, k, False)
        cond, uncond = predict(x_t, k, True).chunk(2)
        return uncond + scale * (cond - uncond)

    return guided


def active(times: list[float], interval: tuple[float, float]) -> list[bool]:
    """Which evaluation times lie within the guidance interval (ends included)."""
    low, high = interval
    return [low <= t <= high for t in times]
