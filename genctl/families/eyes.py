"""The frozen network by which codecs, critics and finishers compare pictures: a shipped part."""

from __future__ import annotations

from genctl import hub
from genctl.nets.fast import channels_last
from genctl.nets.lpips import LPIPS


def lpips() -> LPIPS:
    """LPIPS's AlexNet of the part `lpips_alex`, in float32, on the CPU."""
    net = LPIPS()
    tensors, _ = hub.load_part("lpips_alex")
    net.load_state_dict({key: value.float() for key, value in tensors.items()})
    return channels_last(net)
