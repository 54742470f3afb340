"""From a real picture to the styles that draw it, by optimisation (Image2StyleGAN's W+, arXiv:1904.03189): one style a
layer, from the mean on, until the drawn picture has the same numbers and looks the same."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genctl.nets.lpips import LPIPS

STEPS = 240  # of which the first third sees x alone (pixels or codes), the others the picture as well
RATE = 0.08  # largest step of a style's numbers, whose deviation is about 1
Render = Callable[[Tensor], Tensor]


def project(
    draw: Render, render: Render, start: Tensor, x: Tensor, picture: Tensor, eyes: LPIPS,
    watch: Callable[[str, int, int], None], steps: int = STEPS,
) -> Tensor:  # fmt: skip
    """Styles [1, L, W] whose drawing is near to a picture, from `start` on.

    draw: styles -> x; render: x -> picture [1, 3, H, W]; x: that of the picture. Loss: mean square of x's difference,
    after a third of the steps also LPIPS and the pictures' mean square. Raises nothing: what is found is the best seen.
    """
    styles = start.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([styles], lr=RATE)
    seen = eyes.features(picture)
    best, found = float("inf"), styles.detach().clone()
    for step in range(steps):
        watch("projecting", step, steps)
        share = step / steps
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, 20 * share + 0.05) * min(1.0, 3 * (1 - share))
        made = draw(styles).float()
        loss = (made - x).square().mean()
        if 3 * step >= steps:
            shown = render(made).float()
            loss = loss + eyes.distance(eyes.features(shown), seen).mean() + (shown - picture).square().mean()
            if float(loss.detach()) < best:
                best, found = float(loss.detach()), styles.detach().clone()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    watch("projecting", steps, steps)
    return found
