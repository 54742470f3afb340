"""A look at a training step without taking it: its loss, and how much memory it takes. Looking changes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genctl import rng
from genctl.devices import memory_bytes
from genctl.errors import UsageError
from genctl.families.base import Family, Source
from genctl.rng import Draw
from genctl.training.optim import TrainConfig

SHARE = 1 / 8  # of a CPU machine's memory, that a part of a batch may take for its backward pass


@dataclass(frozen=True)
class Probe:
    """What a run's steps are made of; `autocast` as in training."""

    model: Family
    source: Source
    config: TrainConfig
    seed: int
    autocast: AbstractContextManager[Any]

    def loss(self, step: int, count: int, progress: float) -> float:
        """The loss of the weights of now on `count` rows of a step's batch. What a family notes when it looks at a
        batch (a stage, an average, a codebook's places) is put back."""
        batch, model = self.rows(step, count), self.model
        draw = Draw(rng.address("noise", self.seed, step), count, model.device)
        noted = {key: value.clone() for key, value in model.state_dict().items()}
        model.train()
        torch.manual_seed(rng.address("dropout", self.seed, step))
        with self.autocast:
            walk = model.training_step(batch, draw, progress)
            loss = next((float(loss.detach()) for phase, loss, _ in walk if phase == "model"), math.nan)
        model.load_state_dict(noted, strict=False)
        return loss

    def rows(self, step: int, count: int) -> dict[str, Tensor]:
        """The first `count` rows of a step's batch."""
        rows = rng.rows(self.seed, step, self.config.batch, self.source.weights)[:count]
        return self.source.batch(rows, Draw(rng.address("augment", self.seed, step), count))

    def parts(self) -> int:
        """In how many parts a CPU takes a batch, so that what each keeps for its backward pass is a small share of the
        memory: there the system ends a process that wants too much, where a GPU says so in time. 1 where that is not
        known. Raises UsageError where the batch's own numbers do not fit."""
        count, room = self.config.batch, memory_bytes()
        if self.model.device.type != "cpu" or not room or count < 2:
            return 1
        size = count * sum(value.nbytes for value in self.rows(0, 1).values())
        if size > 2 * SHARE * room:
            what = f"{size / 1e9:,.1f} GB of {room / 1e9:.0f}"
            raise UsageError(f"train.batch={count}: its pictures alone take {what}; a smaller batch")
        return min(count, max(1, math.ceil(count * self.bytes_a_row() / (SHARE * room))))

    def bytes_a_row(self) -> int:
        """What a step keeps for its backward pass, for each further row."""
        with eager() if self.config.compile else nullcontext():
            return self._kept(2) - self._kept(1)

    def _kept(self, count: int) -> int:
        kept = {}

        def keep(value: Tensor) -> Tensor:
            storage = value.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return value

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            self.loss(0, count, 0.0)
        return sum(kept.values())


@contextmanager
def eager() -> Iterator[None]:
    """Nothing is compiled within: a few rows are not worth it."""
    torch.compiler.set_stance("force_eager")
    try:
        yield
    finally:
        torch.compiler.set_stance("default")
