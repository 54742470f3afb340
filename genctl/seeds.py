"""Seeds as people give them; without torch, so that a wrong one is refused at once."""

from __future__ import annotations

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
            low, _, high = part.strip().partition("-")
            span = range(int(low), int(high or low) + 1)
            if not span or span[-1] > MOST_SEED or len(seeds) + len(span) > MOST:
                raise ValueError
            seeds += span
    except ValueError:
        raise UsageError(f"--seeds {text}: wants numbers and ranges, for example 3,7,10-15") from None
    return seeds
