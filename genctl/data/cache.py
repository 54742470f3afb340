"""A folder for what is dear to make and safe to lose, each under a key of everything it was made from."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genctl import files
from genctl.errors import ModelError, WorldError

if TYPE_CHECKING:
    from torch import Tensor


def cache_folder() -> Path:
    """`GENCTL_CACHE`, else the platform's cache folder."""
    if "GENCTL_CACHE" in os.environ:
        return Path(os.environ["GENCTL_CACHE"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "~")).expanduser() / "genctl"
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "genctl"


def cached(kind: str, key: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors that `make` makes, from the cache if the JSON-able `key` (content, transform, version) is known.

    What is stored is what is used: fresh ones are read back, or else laid out as they would be, since the order in
    which a kernel sums follows a tensor's strides.
    """
    digest = hashlib.sha256(json.dumps([kind, key], sort_keys=True).encode()).hexdigest()[:32]
    path = cache_folder() / kind / f"{digest}.safetensors"
    if path.exists():
        try:
            return files.load_tensors(path)[0]
        except ModelError:
            path.unlink(missing_ok=True)  # damaged: make it again
    made = make()
    try:
        files.save_tensors(path, made, {})
        return files.load_tensors(path)[0]
    except WorldError as error:
        print(f"genctl: not cached: {error}", file=sys.stderr)
    except ModelError:  # removed or replaced meanwhile
        pass
    return {key: _plain(value) for key, value in made.items()}


def _plain(value: Tensor) -> Tensor:
    """A copy on the CPU in the layout of a file."""
    return value.detach().cpu().new_empty(value.shape).copy_(value)
