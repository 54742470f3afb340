"""What a run keeps: its state, its model file, an early one to guide by, sheets of pictures. Nothing that holds NaN or
infinite values is written; what was kept before then stays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from genctl import __version__, rng
from genctl.errors import DivergedError
from genctl.families.base import Family, Source
from genctl.families.saved import kept, save
from genctl.files import read_header
from genctl.media.pictures import to_image
from genctl.media.sheet import Layout, compose, document_of
from genctl.media.write import encode_picture
from genctl.rng import Draw
from genctl.training.optim import PowerEMA, TrainConfig
from genctl.training.run import Run, State, not_finite
from genctl.training.score import SCORE, Score, warning
from genctl.writing import write_whole

Report = Callable[[dict[str, Any]], None]
COLUMNS = 8  # of a sheet


class Keeper:
    """Writes what a run leaves in its folder, of the model's moving average but for the state."""

    def __init__(
        self, model: Family, source: Source, held_out: Source | None, run: Run, config: TrainConfig, average: PowerEMA,
        autocast: torch.autocast, score: Score | None = None, remark: Callable[[str], None] = lambda line: None,
    ) -> None:  # fmt: skip
        self.model, self.source, self.held_out, self.run, self.config = model, source, held_out, run, config
        self.average, self.autocast, self.score, self.remark = average, autocast, score, remark
        self.sheeted = any(run.samples.glob("*.png"))

    def save(self, state: State, document: dict[str, Any], report: Report) -> None:
        """State, model file, held-out figures and a sheet. Raises DivergedError, with nothing changed, where numbers
        are not finite."""
        with _averaged(self):
            self._stored()
        self.run.save_state(state.step, state.tensors, state.minutes, state.prepared)
        with _averaged(self):
            with torch.no_grad(), self.autocast:
                self.model.finish(self.source)
                figures = self.validate()
            figures |= self._scored()
            for line in self.model.warnings(figures):
                self.remark(f"genctl: {line}")
            training = document.get("training", {}) | self.spent(state)
            if self._best(figures):
                self._write(self.run.model, document | {"figures": figures, "training": training})
            self._sheet(state.step)
        if figures:
            row: dict[str, Any] = {"step": state.step, "minutes": round(state.minutes, 3)}
            row |= {f"held_out_{key}": value for key, value in figures.items()}
            self.run.log(row)
            report(row)

    def _scored(self) -> dict[str, float]:
        """Figures of what the model draws, where it is kept by them; what they mean is said where it is bad."""
        if self.score is None:
            return {}
        with torch.autocast(self.model.device.type, enabled=False):
            figures = self.score(self.model)
        if line := warning(figures["diversity"]):
            self.remark(f"genctl: {line}")
        return figures

    def _best(self, figures: dict[str, float]) -> bool:
        """Whether the model of now takes the place of the one that was written: not where that one's score is lower."""
        if self.score is None or not self.run.model.exists():
            return True
        before = read_header(self.run.model).document.get("figures", {}).get(SCORE)
        if not isinstance(before, (int, float)) or figures[SCORE] <= before:
            return True
        self.remark(
            f"the model file stays as it was: its {SCORE} distance is {before:g}, that of now {figures[SCORE]:g}"
        )
        return False

    @property
    def wants_early(self) -> bool:
        """Whether the run keeps an early model: of a family that draws."""
        return "sample" in self.model.can and self.config.early > 0

    def early(self, state: State, document: dict[str, Any]) -> None:
        """The averaged weights so far, once, as a weaker model to guide by."""
        with _averaged(self):
            training = document.get("training", {}) | self.spent(state)
            self._write(self.run.early, document | {"training": training})

    def sheet(self, step: int) -> None:
        """A sheet of what the model makes by now."""
        with _averaged(self):
            self._sheet(step)

    def _sheet(self, step: int) -> None:
        with torch.no_grad(), self.autocast:
            pictures = self.model.preview(self.source)
        facts = {"model": self.run.folder.resolve().name, "size": str(self.model.pixels), "training_steps": step}
        rows = self.model.previewed(self.source)
        write_whole(self.run.samples / f"{step:08d}.png", sheet_of(pictures, rows, facts))
        self.sheeted = True

    def _stored(self) -> dict[str, Tensor]:
        """The tensors as the model file has them. Raises DivergedError for what is not finite there."""
        dtype = getattr(torch, self.config.store)
        parameters = {name for name, _ in self.model.named_parameters()}
        tensors = kept(self.model, self.model.state_dict())
        stored = {key: value.to(dtype) if key in parameters else value for key, value in tensors.items()}
        wrong = not_finite(stored)
        if wrong:
            raise DivergedError(
                f"{wrong} holds NaN or infinite values as {self.config.store}, so nothing was saved; "
                f"{last_good(self.run)}"
            )
        return stored

    def _write(self, path: Any, document: dict[str, Any]) -> None:
        """The model as it is now, as a model file."""
        save(self.model, path, self._stored(), document)

    def spent(self, state: State) -> dict[str, Any]:
        images = state.step * self.config.batch
        return {"steps": state.step, "minutes": round(state.minutes, 1), "images": images}

    def validate(self, most: int = 256) -> dict[str, float]:
        """Means of the held-out figures over at most `most` pictures, with the same draws each time."""
        if self.held_out is None or not self.held_out.weights.any():
            return {}
        sums: dict[str, float] = {}
        known = self.held_out.weights.nonzero()[:, 0]  # a row without weight is none that batches are asked for
        rows = known[torch.linspace(0, len(known) - 1, min(most, len(known))).round().long()]
        for index, chunk in enumerate(rows.split(64)):
            batch = self.held_out.batch(chunk, Draw(rng.address("held out", index), len(chunk)))
            draw = Draw(rng.address("held out noise", index), len(chunk), self.model.device)
            for key, value in self.model.validation_loss(batch, draw).items():
                sums[key] = sums.get(key, 0.0) + float(value) * len(chunk) / len(rows)
        return {key: round(value, 5) for key, value in sums.items() if math.isfinite(value)}


@contextmanager
def _averaged(keeper: Keeper) -> Iterator[None]:
    """Within it the model has its averaged weights, and is ready to be used."""
    keeper.average.swap()
    keeper.model.eval()
    try:
        yield
    finally:
        keeper.average.swap()


def last_good(run: Run) -> str:
    """Where a run stands that has gone wrong."""
    states = run.states()
    return f"the last good state is {states[-1]}" if states else "no state was saved yet"


def sheet_of(pictures: Tensor, rows: list[dict[str, Any]], facts: dict[str, Any]) -> bytes:
    """Pictures [N, 3, H, W] as one PNG with a label above each, that says what is known of all (`facts`) and of each
    (`rows`, N or none; see `Family.previewed`)."""
    count = len(pictures)
    rows = rows if len(rows) == count else [{}] * count
    labels = tuple(str(row.get("label", "")) for row in rows)
    columns = min(COLUMNS, count)
    layout = Layout(columns, math.ceil(count / columns), cell_labels=labels if any(labels) else ())
    said = [{"version": __version__} | facts | {key: row[key] for key in row if key != "label"} for row in rows]
    sheet = compose([to_image(picture) for picture in pictures], layout)
    return encode_picture(sheet, "png", document_of(said, layout))
