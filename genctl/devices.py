"""Where networks run: the torch device that a person names."""

from __future__ import annotations

import os
from typing import Any

from genctl.errors import UsageError, nearest

MOST_THREADS = 1024
KINDS = ("auto", "cpu", "cuda", "mps")


def device_of(name: Any) -> Any:
    """The torch device that `--device` names, or a torch device. Raises UsageError when this machine lacks it."""
    import torch

    name = str(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _mps() else "cpu")
    kind = name.split(":")[0]
    if kind not in KINDS:
        raise UsageError(f"--device {name}: not one of {', '.join(KINDS)}{nearest(kind, list(KINDS))}")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: not a device") from None
    count = torch.cuda.device_count() if kind == "cuda" else int(_mps())
    if kind != "cpu" and (device.index or 0) >= count:
        raise UsageError(f"--device {name}: this machine (or this build of torch) has {count} of that kind")
    return device


def set_threads(count: int | None) -> None:
    """Let torch use so many CPU threads, where a number is given. Raises UsageError for what no machine has."""
    import torch

    if count is not None:
        if not 1 <= count <= MOST_THREADS:
            raise UsageError(f"--threads {count}: wants 1 to {MOST_THREADS}")
        torch.set_num_threads(count)


def _mps() -> bool:
    import torch

    return torch.backends.mps.is_available()


def memory_bytes() -> int:
    """The machine's memory, or 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
