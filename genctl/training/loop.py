"""The one training loop, for all families.

    rows, noise, augmentation of step k  <-  (seed, k) alone          draws.py
    for phase, loss, figures in family.training_step(batch): backward, clip, that phase's optimisers
    moving average; now and then: log, save the state whole, write the model file and a preview

So a resumed run needs only weights, optimiser and k, and equals the undisturbed one bit for bit (with --steps; a run
bounded by --minutes has a schedule that follows the clock).
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genctl import draws
from genctl.draws import Draw
from genctl.errors import DivergedError, UsageError, out_of_memory
from genctl.families.base import Family, Source
from genctl.families.saved import kept, save
from genctl.media.write import encode_picture, grid
from genctl.training.optim import PowerEMA, TrainConfig, make_optimisers, rate, update
from genctl.training.run import Run
from genctl.writing import write_whole

BAD_STEPS = 10  # skipped or far-off steps in a row that end a run
Report = Callable[[dict[str, Any]], None]
Remark = Callable[[str], None]


class Trainer:
    """Trains one family on one source in one run folder."""

    def __init__(
        self, model: Family, source: Source, held_out: Source | None, run: Run, config: TrainConfig, seed: int,
        remark: Remark = lambda line: None,
    ) -> None:  # fmt: skip
        self.model, self.source, self.held_out, self.run, self.config = model, source, held_out, run, config
        self.seed, self.step, self.minutes, self.remark = seed, 0, 0.0, remark
        self.optimisers = {phase: make_optimisers(module, config) for phase, module in model.phases().items()}
        self.ema = PowerEMA(model.averaged(), config.ema)
        self.autocast = autocast(model.device, config.precision)
        if config.compile:
            model.compile_parts()
        self.parts = config.parts
        self.stopping = False
        self.usual = math.nan  # the loss's usual size
        self.bad = 0

    @property
    def progress(self) -> float:
        shares = [self.step / self.config.steps] if self.config.steps else []
        shares += [self.minutes / self.config.minutes] if self.config.minutes else []
        return min(1.0, max(shares, default=0.0))

    def train(self, document: Callable[[], dict[str, Any]], report: Report) -> None:
        """Run to the end, or until interrupted (KeyboardInterrupt once the state is saved). Raises DivergedError."""
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        saved, last = self.minutes, time.monotonic()
        with self._interruptible():
            while self.progress < 1 and not self.stopping:
                figures = self.advance()
                now = time.monotonic()
                self.minutes, last = self.minutes + (now - last) / 60, now
                for key, value in figures.items():
                    sums[key] = sums[key] + value if key in sums else value
                    counts[key] = counts.get(key, 0) + 1
                if self.step % self.config.log_steps == 0 or self.progress >= 1:
                    self._log(sums, counts, report)
                    sums, counts = {}, {}
                if not self.run.early.exists() and self.config.early <= self.progress < 1 and not self.bad:
                    self._keep_early(document())
                if not self.bad and self.minutes - saved >= self.config.save_minutes:
                    self.save(document(), report)
                    saved = self.minutes
                    last = time.monotonic()  # saving is not training time
            self.save(document(), report)
        if self.stopping:
            raise KeyboardInterrupt

    def advance(self) -> dict[str, Tensor]:
        """One step: every phase's backward and update, then the moving average. Returns figures on the device."""
        model, seed = self.model, self.seed
        rows = draws.rows(seed, self.step, self.config.batch, self.source.weights)
        batch = self.source.batch(rows, Draw(draws.address("augment", seed, self.step), len(rows)))
        draw = Draw(draws.address("noise", seed, self.step), len(rows), model.device)
        learning_rate = rate(self.config, self.step, self.progress)
        figures: dict[str, Tensor] = {}
        model.train()
        for phase, means in self._phases(batch, draw):
            norm, skipped = update(self.optimisers[phase], self.config, learning_rate * model.rate_of(phase))
            self._clear_gradients()  # what this phase left on the others' weights
            prefix = "" if phase == "model" else f"{phase}_"
            figures |= {f"{prefix}norm": norm, f"{prefix}skipped": skipped, f"{prefix}loss": means.pop("loss")} | means
        self.step += 1
        self.ema.update(self.step)
        if model.device.type == "cpu":
            self._watch(figures)  # on a GPU this would wait for the device each step; there _log looks
        return figures

    def _phases(self, batch: dict[str, Tensor], draw: Draw) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Run each phase's backward over the batch, whole or in parts, and yield (phase, loss and figures) once its
        gradients are there. Where memory runs out in the first phase, before anything was updated, the step begins anew
        in twice as many parts; each row keeps its random numbers, so the gradients are the same."""
        while True:
            phases = self._accumulated(batch, draw)
            try:
                first = next(phases)
                break
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or self.parts >= draw.total:
                    raise
                self.parts = min(2 * self.parts, draw.total)
            self._clear_gradients()
            self.remark(f"memory is short: from step {self.step} on each batch is taken in {self.parts} parts")
        yield first
        yield from phases

    def _accumulated(self, batch: dict[str, Tensor], draw: Draw) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """All parts walk through their phases side by side: a part's graph is gone when the next one's is made."""
        torch.manual_seed(draws.address("dropout", self.seed, self.step))  # modules such as dropout draw from this one
        cuts = [draw.total * part // self.parts for part in range(self.parts + 1)]
        walks = []
        for start, stop in pairwise(cuts):
            rows = {key: value[start:stop] for key, value in batch.items()}
            share = (stop - start) / draw.total
            walks.append((share, self.model.training_step(rows, draw.part(start, stop), self.progress)))
        while True:
            means: dict[str, Tensor] = {}
            phase = ""
            for share, walk in walks:
                with self.autocast:  # left before the update: it keeps bf16 copies of the weights
                    yielded = next(walk, None)
                if yielded is None:
                    return
                phase, loss, figures = yielded
                (share * loss).backward()
                for key, value in ({"loss": loss} | figures).items():
                    part = share * value.detach()
                    means[key] = means[key] + part if key in means else part
            yield phase, means

    def _clear_gradients(self) -> None:
        for optimisers in self.optimisers.values():
            for optimiser in optimisers:
                optimiser.zero_grad(set_to_none=True)

    def _watch(self, figures: dict[str, Tensor]) -> None:
        """Stop a run whose loss is not finite, or ten times its usual size, for several steps."""
        loss = float(figures["loss"])
        far = loss > self.usual + 10 * abs(self.usual) + 1  # False while the usual is not known
        off = not math.isfinite(loss) or float(figures["skipped"]) > 0 or far
        self.bad = self.bad + 1 if off else 0
        if not off:
            self.usual = loss if math.isnan(self.usual) else 0.98 * self.usual + 0.02 * loss
        if self.bad >= BAD_STEPS:
            states = self.run.states()
            where = f"the last good state is {states[-1]}" if states else "no state was saved yet"
            raise DivergedError(
                f"training diverged at step {self.step} (loss {loss:.4g}); {where}; "
                "try a lower --set train.learning_rate or --set train.precision=fp32"
            )

    def _log(self, sums: dict[str, Tensor], counts: dict[str, int], report: Report) -> None:
        means = {key: float(value) / counts[key] for key, value in sums.items()}
        if self.model.device.type != "cpu":
            self.bad += BAD_STEPS - 1 if means["skipped"] > 0.5 else 0
            self._watch({"loss": torch.tensor(means["loss"]), "skipped": torch.tensor(means["skipped"])})
        finite = {key: value for key, value in means.items() if math.isfinite(value)}  # JSON has no NaN
        row = {"step": self.step, "minutes": round(self.minutes, 3), "progress": round(self.progress, 5)} | finite
        self.run.log(row)
        report(row | {"images": self.step * self.config.batch, "steps": self.config.steps})

    def tensors(self) -> dict[str, Tensor]:
        """Everything a resume needs besides the step: weights, averages, optimiser moments."""
        state = {f"model/{key}": value for key, value in self.model.state_dict().items()}
        state |= {f"average/{index:05d}": value for index, value in enumerate(self.ema.average)}
        for name, optimiser in self._named_optimisers():
            for index, moments in optimiser.state_dict()["state"].items():
                state |= {f"optimiser/{name}/{index:05d}/{key}": value for key, value in moments.items()}
        return state

    def _named_optimisers(self) -> Iterator[tuple[str, torch.optim.Optimizer]]:
        """`model.0`, `model.1`, `critic.0`: how the state names them."""
        for phase, optimisers in self.optimisers.items():
            for place, optimiser in enumerate(optimisers):
                yield f"{phase}.{place}", optimiser

    def resume(self) -> None:
        """Continue from the run folder's newest state."""
        self.step, self.minutes, tensors = self.run.load_state()
        self.run.trim_metrics(self.step)
        try:
            self._restore(tensors)
        except (RuntimeError, KeyError) as error:
            raise UsageError(f"{self.run.folder}: its state is of another architecture ({str(error)[:80]})") from None

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        self.model.load_state_dict({k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")})
        for index, average in enumerate(self.ema.average):
            average.copy_(tensors[f"average/{index:05d}"])
        for name, optimiser in self._named_optimisers():
            states: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f"optimiser/{name}/"):
                    _, _, place, moment = key.split("/")
                    states.setdefault(int(place), {})[moment] = value.clone()
            optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})

    def save(self, document: dict[str, Any], report: Report) -> None:
        """State, model file (averaged weights), held-out figures and a preview."""
        self.run.save_state(self.step, self.tensors(), self.minutes)
        self.ema.swap()
        self.model.eval()
        try:
            with torch.no_grad(), self.autocast:
                self.model.finish(self.source)
                figures = self.validate()
                preview = self.model.preview(self.source)
            document = document | {"figures": figures, "training": document.get("training", {}) | self.spent()}
            self._write(self.run.model, document)
        finally:
            self.ema.swap()
        picture = encode_picture(grid(preview, columns=8), "png")
        (self.run.folder / "samples").mkdir(exist_ok=True)
        write_whole(self.run.folder / "samples" / f"{self.step:08d}.png", picture)
        if figures:
            row = {"step": self.step, "minutes": round(self.minutes, 3)}
            self.run.log(row | {f"held_out_{key}": value for key, value in figures.items()})
            report(row | {f"held_out_{key}": value for key, value in figures.items()})

    def _write(self, path: Path, document: dict[str, Any]) -> None:
        """The model as it is now, as a model file."""
        dtype = getattr(torch, self.config.store)
        parameters = {name for name, _ in self.model.named_parameters()}
        tensors = kept(self.model, self.model.state_dict())
        stored = {key: value.to(dtype) if key in parameters else value for key, value in tensors.items()}
        save(self.model, path, stored, document)

    def _keep_early(self, document: dict[str, Any]) -> None:
        """The averaged weights so far, once, as a weaker model to guide by; of a family that draws."""
        if "sample" not in self.model.can or not self.config.early:
            return
        self.ema.swap()
        try:
            self._write(self.run.early, document | {"training": document.get("training", {}) | self.spent()})
        finally:
            self.ema.swap()

    def spent(self) -> dict[str, Any]:
        return {"steps": self.step, "minutes": round(self.minutes, 1), "images": self.step * self.config.batch}

    def validate(self, most: int = 256) -> dict[str, float]:
        """Means of the held-out figures over at most `most` pictures, with the same draws each time."""
        if self.held_out is None or not len(self.held_out.weights):
            return {}
        sums: dict[str, float] = {}
        rows = torch.linspace(0, len(self.held_out.weights) - 1, min(most, len(self.held_out.weights))).round().long()
        for index, chunk in enumerate(rows.split(64)):
            batch = self.held_out.batch(chunk, Draw(draws.address("held out", index), len(chunk)))
            draw = Draw(draws.address("held out noise", index), len(chunk), self.model.device)
            for key, value in self.model.validation_loss(batch, draw).items():
                sums[key] = sums.get(key, 0.0) + float(value) * len(chunk) / len(rows)
        return {key: round(value, 5) for key, value in sums.items() if math.isfinite(value)}

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the run after the step in progress, with its state saved."""

        def stop(number: int, frame: Any) -> None:
            if self.stopping:
                raise KeyboardInterrupt  # asked twice: at once
            self.stopping = True

        try:
            before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 where the hardware computes it, else float32. Weights stay float32 in either case."""
    from genctl.nets.fast import bf16_pays

    return torch.autocast(
        device.type, torch.bfloat16, enabled=precision == "bf16" or (precision == "auto" and bf16_pays(device))
    )
