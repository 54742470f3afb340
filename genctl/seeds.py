"""Seeds as people give them; without torch, so that a wrong one is refused at once."""

from __future__ import annotations

import re
import secrets

from genctl.errors import UsageError

MOST_SEED = (1 << 62) - 1
MOST = 1_000_000  # pictures of one call: the plan alone (names, seeds) of more would fill the memory


def fresh_seed() -> int:
    """A random seed short enough to retype, for when none was given."""
    return secrets.randbelow(1 << 31)


def parse_seeds(text: str) -> list[int]:
    """`3,7,10-15` -> [3, 7, 10, ..., 15]. Raises UsageError."""
    seeds: list[int] = []
    try:
        for part in text.split(","):
            match = re.fullmatch(r"\s*([0-9]{1,19})\s*(?:-\s*([0-9]{1,19})\s*)?", part, re.ASCII)
            span = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
            if not span or span[-1] > MOST_SEED or len(seeds) + len(span) > MOST:
                raise ValueError
            seeds += span
    except ValueError:
        wanted = f"numbers and ranges from 0 to {MOST_SEED}, for example 3,7,10-15; at most {MOST:,} of them"
        raise UsageError(f"--seeds {text[:60]}: wants {wanted}") from None
    return seeds
