"""The one training loop, for all families.

    rows, noise, augmentation of step k  <-  (seed, k) alone          rng.py
    for phase, loss, figures in family.training_step(batch): backward, clip, that phase's optimisers
    moving average; now and then: log, save the state whole, write the model file and a sheet      keep.py

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
from typing import Any

import torch
from torch import Tensor

from genctl import rng
from genctl.errors import DivergedError, UsageError, out_of_memory
from genctl.families.base import Family, Source
from genctl.rng import Draw
from genctl.text import printable
from genctl.training.keep import Keeper, last_good
from genctl.training.optim import PowerEMA, TrainConfig, check_moments, make_optimisers, rate, update
from genctl.training.probe import Probe
from genctl.training.run import Run, State, not_finite
from genctl.training.score import Score

BAD_STEPS = 10  # skipped or far-off steps in a row that end a run
PROBES, PROBED = 3, 32  # batches at most, and rows of each, by which a state is judged before it is kept
SHOWN_SECONDS = 5.0  # between figures that are shown, beside those of every so many steps that are logged
SHEET_MINUTES = 0.1  # after which the first sheet is drawn, or at the first logged row
LEAST_SHARE = 1 / 3  # of the minutes that is left to training, however long its preparation took
Report = Callable[[dict[str, Any]], None]
Remark = Callable[[str], None]


class Means:
    """Sums of figures on the device, and how many of each."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, figures: dict[str, Tensor]) -> None:
        for key, value in figures.items():
            self.sums[key] = self.sums[key] + value if key in self.sums else value
            self.counts[key] = self.counts.get(key, 0) + 1

    def values(self) -> dict[str, float]:
        return {key: float(value) / self.counts[key] for key, value in self.sums.items()}


class Trainer:
    """Trains one family on one source in one run folder."""

    def __init__(
        self, model: Family, source: Source, held_out: Source | None, run: Run, config: TrainConfig, seed: int,
        remark: Remark = lambda line: None, prepared: float = 0.0,
        score: Score | None = None,
    ) -> None:  # fmt: skip
        self.model, self.source, self.run, self.config = model, source, run, config
        self.seed, self.step, self.minutes, self.remark = seed, 0, 0.0, remark
        self.prepared = prepared  # minutes before the first step, which count as well
        self.optimisers = {phase: make_optimisers(module, config) for phase, module in model.phases().items()}
        self.ema = PowerEMA(model.averaged(), config.ema)
        self.autocast = autocast(model.device, config.precision)
        self.probe = Probe(model, source, config, seed, self.autocast)
        if config.compile:
            model.compile_parts()
        self.parts = config.parts
        self.stopping = False
        self.usual = math.nan  # the loss's usual size
        self.bad = 0
        self.at = 0.0  # the progress of the latest step
        self.keeper = Keeper(model, source, held_out, run, config, self.ema, self.autocast, score, remark)

    @property
    def progress(self) -> float:
        shares = [self.step / self.config.steps] if self.config.steps else []
        if self.config.minutes:
            whole = self.config.minutes
            shares.append(self.minutes / max(whole - self.prepared, LEAST_SHARE * whole))
        return min(1.0, max(shares, default=0.0))

    def train(self, document: Callable[[], dict[str, Any]], report: Report) -> None:
        """Run to the end, or until interrupted (KeyboardInterrupt once the state is saved). Raises DivergedError, with
        what was kept before as it was, also where the end is what diverged."""
        means = Means()
        self._split()
        saved, last, shown = self.minutes, time.monotonic(), -math.inf
        with self._interruptible():
            while self.progress < 1 and not self.stopping:
                means.add(self.advance())
                now = time.monotonic()
                self.minutes, last = self.minutes + (now - last) / 60, now
                if self.step % self.config.log_steps == 0 or self.progress >= 1:
                    self._log(means, report)
                    means, shown = Means(), now
                elif now - shown >= SHOWN_SECONDS:
                    report(self._shown(self._row(means)))
                    shown = now
                if self.progress < 1 and not self.bad:
                    begun = time.monotonic()
                    saved = self.minutes if self._keep_some(document, report, saved) else saved
                    last += time.monotonic() - begun  # keeping is not training time
            if self.step:
                self._refuse_diverged()
            self.save(document(), report)
        if self.stopping:
            raise KeyboardInterrupt

    def _keep_some(self, document: Callable[[], dict[str, Any]], report: Report, saved: float) -> bool:
        """What is due by now: the first sheet, the early model, a save of all. True when all was saved."""
        early = self.keeper.wants_early and self.config.early <= self.progress and not self.run.early.exists()
        whole = self.minutes - saved >= self.config.save_minutes
        if not self.keeper.sheeted and (self.minutes >= SHEET_MINUTES or self.step >= self.config.log_steps):
            self._say("drawing a sheet", report)
            self.keeper.sheet(self.step)
        if not (early or whole) or self.fault():
            return False
        if early:
            self.keeper.early(self.state(), document())
        if whole:
            self.save(document(), report)
        return whole

    def save(self, document: dict[str, Any], report: Report) -> None:
        """State, model file, held-out figures and a sheet."""
        self._say("saving", report)
        self.keeper.save(self.state(), document, report)

    def _say(self, stage: str, report: Report) -> None:
        report({"stage": stage, "step": self.step, "of": self.config.steps})

    def _split(self) -> None:
        """Take each batch in so many parts that the machine's memory is enough; see Probe.parts."""
        wanted = self.probe.parts()
        if wanted > self.parts:
            self.parts = wanted
            self.remark(f"a batch of {self.config.batch} would take much of the memory: it is taken in {wanted} parts")

    def advance(self) -> dict[str, Tensor]:
        """One step: every phase's backward and update, then the moving average. Returns figures on the device."""
        model, seed = self.model, self.seed
        rows = rng.rows(seed, self.step, self.config.batch, self.source.weights)
        batch = self.source.batch(rows, Draw(rng.address("augment", seed, self.step), len(rows)))
        draw = Draw(rng.address("noise", seed, self.step), len(rows), model.device)
        self.at = self.progress
        learning_rate = rate(self.config, self.step, self.at)
        figures: dict[str, Tensor] = {}
        model.train()
        for phase, means in self._phases(batch, draw):
            own = learning_rate * model.rate_of(phase)
            norm, skipped = update(self.optimisers[phase], self.config, own, model.beta2_at(self.at))
            self._clear_gradients()  # what this phase left on the others' weights
            prefix = "" if phase == "model" else f"{phase}_"
            figures |= {
                f"{prefix}grad_norm": norm,
                f"{prefix}skipped": skipped,
                f"{prefix}loss": means.pop("loss"),
            } | means
        self.step += 1
        self.ema.update(self.step)
        if model.device.type == "cpu":
            self._watch(figures)  # on a GPU this would wait for the device each step; there _log looks
        return figures

    def _phases(self, batch: dict[str, Tensor], draw: Draw) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Run each phase's backward over the batch, whole or in parts, and yield (phase, loss and figures) once its
        gradients are there. Where memory runs out in the first phase, before anything was updated, the step begins anew
        in twice as many parts; each row keeps its random numbers, so the gradients are the same
        but for dropout, which goes by the part."""
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
        torch.manual_seed(rng.address("dropout", self.seed, self.step))  # modules such as dropout draw from this one
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
        off = not math.isfinite(loss) or float(figures["skipped"]) > 0 or self._far(loss)
        self.bad = self.bad + 1 if off else 0
        if not off:
            self.usual = loss if math.isnan(self.usual) else 0.98 * self.usual + 0.02 * loss
        if self.bad >= BAD_STEPS:
            raise self._diverged(f"loss {loss:.4g}")

    def _diverged(self, why: str) -> DivergedError:
        return DivergedError(
            f"training diverged at step {self.step} ({why}), so it was not saved; {last_good(self.run)}; "
            "try a lower --set train.learning_rate or --set train.precision=fp32"
        )

    def _refuse_diverged(self) -> None:
        why = self.fault()
        if why:
            raise self._diverged(why)

    def fault(self) -> str:
        """Why the weights of now are not to be kept: numbers that are not finite, or a loss far from its usual size on
        each of a few batches; else an empty string. Looking changes nothing."""
        wrong = not_finite(self.tensors())
        if wrong:
            return f"{wrong} holds NaN or infinite values"
        part = max(1, self.config.batch // self.parts)
        count = part if self.config.compile else min(part, PROBED)  # of another size it would be compiled again
        losses = []
        for step in range(self.step - 1, self.step - 1 + PROBES):
            losses.append(self.probe.loss(max(0, step), count, self.at))
            if math.isfinite(losses[-1]) and not self._far(losses[-1]):
                return ""
        return f"loss {losses[0]:.4g} after its latest update"

    def _far(self, loss: float) -> bool:
        if self.model.scored:  # an adversary's loss goes where it wants
            return False
        return loss > self.usual + 10 * abs(self.usual) + 1  # False while the usual is not known

    def _log(self, means: Means, report: Report) -> None:
        row = self._row(means)
        if self.model.device.type != "cpu":
            found = {key: torch.tensor(value) for key, value in means.values().items()}
            self.bad += BAD_STEPS - 1 if float(found["skipped"]) > 0.5 else 0
            self._watch({"loss": found["loss"], "skipped": found["skipped"]})
        self.run.log(row)
        report(self._shown(row))

    def _row(self, means: Means) -> dict[str, Any]:
        finite = {key: value for key, value in means.values().items() if math.isfinite(value)}  # JSON has no NaN
        return {"step": self.step, "minutes": round(self.minutes, 3), "progress": round(self.progress, 5)} | finite

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        return row | {"images": self.step * self.config.batch, "steps": self.config.steps}

    def state(self) -> State:
        return State(self.step, self.minutes, self.tensors(), self.prepared)

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
        """Continue from the run folder's newest whole state."""
        self.step, self.minutes, tensors, self.prepared = self.run.load_state(self.remark)
        try:
            self._restore(tensors)
        except (RuntimeError, KeyError, ValueError) as error:
            said = printable(" ".join(str(error).split()), 80)
            why = f"{self.run.folder}: its state is of another network or optimiser ({said})"
            raise UsageError(f"{why}; --init {self.run.folder} with another -o begins from its weights") from None
        self.run.drop_after(self.step, self.remark)

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
            check_moments(optimiser, states)
            optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})

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
