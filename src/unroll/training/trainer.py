"""The training loop of both projects.

`Trainer.fit` reads top to bottom. It can be killed at any instant and started again: everything that decides the
next step is in the checkpoint, so on a CPU the weights end in the same bits as those of a run never stopped.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from unroll.config import TrainingConfig
from unroll.errors import DivergedError, InterruptedTraining
from unroll.training.checkpoint import CheckpointFolder, load_checkpoint
from unroll.training.device import autocast, check_precision, resolve_device
from unroll.training.gradients import clip_gradients
from unroll.training.metrics import History, MetricLogger
from unroll.training.optim import learning_rate_at, make_optimizer
from unroll.training.problem import Batch, CarriedState, Problem
from unroll.training.progress import ProgressLog
from unroll.training.seed import generator_states, restore_generators
from unroll.training.stop import StopRequest

logger = logging.getLogger(__name__)

FULL_KINDS = ("latest", "good")
"""Checkpoints that training can go on from; `best` holds weights alone."""


@dataclass
class Progress:
    """Where a run is: plain numbers, saved in every checkpoint."""

    step: int = 0
    """Optimizer updates."""
    epoch: int = 0
    batch: int = 0
    """Batches read of this epoch."""
    seconds: float = 0.0
    """Training time, restarts and evaluations counted in."""
    tokens: int = 0
    best_value: float | None = None
    best_step: int = 0
    evaluations_without_gain: int = 0
    evaluated_step: int = -1
    bad_in_a_row: int = 0
    skipped_steps: int = 0
    clipped_steps: int = 0
    rollbacks: int = 0
    learning_rate_scale: float = 1.0
    finished: bool = False


@dataclass
class CurvePoint:
    """Sums since the last point of the training curves."""

    steps: int = 0
    loss: float = 0.0
    gradient_norm: float = 0.0
    clipped: int = 0
    tokens: int = 0
    cells: int = 0
    """Places in the batches, padding counted in."""
    started: float = field(default_factory=time.perf_counter)


class Trainer:
    """Trains one problem in one folder; see the module's text."""

    def __init__(self, problem: Problem, config: TrainingConfig, folder: Path, metric_logger: MetricLogger) -> None:
        """Move the model to the device. ``folder`` keeps the checkpoints and curves; a run found there goes on."""
        self.problem = problem
        self.config = config
        self.device = resolve_device(config.device)
        check_precision(config.precision, self.device)
        self.model = problem.model.to(self.device)
        self.optimizer = make_optimizer(self.model, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "float16")
        self.progress = Progress()
        self.carried: CarriedState = None
        self.checkpoints = CheckpointFolder(folder)
        self.history = History(folder / "history.jsonl")
        self.samples = History(folder / "samples.jsonl")
        self.metric_logger = metric_logger
        self.resumed_from_step: int | None = None
        self._curve = CurvePoint()
        self._clock = time.perf_counter()
        self._saved_at = time.perf_counter()
        self._first_gradient_seen = False

    def fit(self) -> Progress:
        """Train to the end of the budget; leaves the best checkpoint in the folder.

        Raises InterruptedTraining after SIGTERM or SIGINT (the state is saved first) and DivergedError when rolling
        back did not help.
        """
        self._resume_or_start()
        report = ProgressLog(self.total_batches, self.problem.unit, self.config.max_minutes)
        with StopRequest() as stop:
            while not self._budget_spent():
                for batch in self.problem.batches(self.progress.epoch, self.progress.batch):
                    rolled_back = self._train_on(batch.to(self.device))
                    self._tick()
                    report.update(self.batches_done, self.progress, self._loss_so_far)

                    if rolled_back:
                        break
                    if self._evaluation_due() or self._budget_spent():
                        self._evaluate()
                    elif stop.requested or time.perf_counter() - self._saved_at > self.config.checkpoint_seconds:
                        self._save("latest")
                    if stop.requested:
                        self._interrupt(stop)
                    if self._budget_spent():
                        break
                    if self.progress.batch == self.problem.steps_per_epoch:
                        self._next_epoch()
                        break
        self.progress.finished = True
        self._save("latest")
        return self.progress

    @property
    def total_batches(self) -> int:
        """Batches of the whole run, as far as epochs and steps decide."""
        total = self.config.epochs * self.problem.steps_per_epoch
        return total if self.config.max_steps is None else min(total, self.config.max_steps)

    @property
    def batches_done(self) -> int:
        """Batches read since the run's start, skipped steps counted in."""
        return self.progress.epoch * self.problem.steps_per_epoch + self.progress.batch

    def _train_on(self, batch: Batch) -> bool:
        """One batch: forward, backward, clip, step. Returns whether the run was rolled back."""
        self.model.train()
        learning_rate = self._set_learning_rate()

        with autocast(self.device, self.config.precision):
            loss, carried = self.problem.loss(batch, self.carried)

        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm, clipped = clip_gradients(self.model.parameters(), self.config)

        self.progress.batch += 1
        if not bool(torch.isfinite(loss.detach() + norm)):
            return self._skip_step(math.isfinite(float(loss.detach())))
        self.scaler.step(self.optimizer)
        self.scaler.update()

        self.carried = carried
        self.progress.step += 1
        self.progress.bad_in_a_row = 0
        self.progress.clipped_steps += clipped
        self.progress.tokens += batch.num_tokens
        self._add_to_curve(batch, float(loss.detach()), float(norm), clipped, learning_rate)
        return False

    def _set_learning_rate(self) -> float:
        done = self.batches_done / self.total_batches
        if self.config.max_minutes is not None:
            # a slow machine anneals by the clock rather than being cut off at the peak
            done = max(done, self.progress.seconds / (60 * self.config.max_minutes))
        learning_rate = learning_rate_at(done, self.config) * self.progress.learning_rate_scale
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        return learning_rate

    def _skip_step(self, loss_is_finite: bool) -> bool:
        """Leave the weights alone; after several in a row go back to the last good checkpoint."""
        if self.scaler.is_enabled():
            scale = self.scaler.get_scale()
            self.scaler.update(scale / 2)
            if loss_is_finite and scale > 1.0:
                return False  # float16's scale is still finding its height; no fault of the model
        self.carried = None
        self.progress.skipped_steps += 1
        self.progress.bad_in_a_row += 1
        logger.warning("non-finite loss or gradient after step %d: step skipped", self.progress.step)
        self._log({"train/skipped_steps": self.progress.skipped_steps})
        if self.progress.bad_in_a_row < self.config.max_bad_steps:
            return False
        self._roll_back()
        return True

    def _roll_back(self) -> None:
        before = self.progress
        if before.rollbacks >= self.config.max_rollbacks:
            raise DivergedError(
                f"The loss stayed non-finite after {before.rollbacks} roll-backs, the last at learning rate x "
                f"{before.learning_rate_scale:g}. Lower training.learning_rate or training.max_gradient_norm, or "
                "use training.precision=float32."
            )
        good = self.checkpoints.newest("good")
        assert good is not None  # written before the first step
        self._load(good)
        self.progress.rollbacks = before.rollbacks + 1
        self.progress.skipped_steps = before.skipped_steps
        self.progress.seconds = before.seconds
        self.progress.learning_rate_scale = before.learning_rate_scale / 2
        self.progress.bad_in_a_row = 0
        logger.warning(
            "rolled back to step %d; the learning rate goes on at %g of its schedule",
            self.progress.step,
            self.progress.learning_rate_scale,
        )
        self._log({"train/rollbacks": self.progress.rollbacks})
        self._save("good")

    def _evaluation_due(self) -> bool:
        spacing = math.ceil(self.problem.steps_per_epoch / self.config.evaluations_per_epoch)
        return self.progress.batch % spacing == 0 or self.progress.batch == self.problem.steps_per_epoch

    def _evaluate(self) -> None:
        """Score the validation split, keep the best weights, and save a state to go on from."""
        if self.progress.evaluated_step == self.progress.step:
            return
        metrics = self.problem.validate(self.device, self.config.precision)
        self.progress.evaluated_step = self.progress.step
        self._log({f"validation/{name}": value for name, value in metrics.items()})
        value = metrics[self.problem.score.name]
        improved = self.problem.score.improves(value, self.progress.best_value)
        self.progress.evaluations_without_gain = 0 if improved else self.progress.evaluations_without_gain + 1
        shown = ", ".join(f"{name} {metric:.4f}" for name, metric in metrics.items())
        logger.info(
            "step %d, epoch %d of %d: validation %s%s",
            self.progress.step,
            self.progress.epoch + 1,
            self.config.epochs,
            shown,
            " (best)" if improved else "",
        )
        sample = self.problem.sample(self.device)
        if sample is not None:
            self.samples.append({"epoch": self.progress.epoch + 1, "text": sample}, self.progress.step)
        self._tick()
        if improved or self.checkpoints.newest("best") is None:
            self.progress.best_value = value if math.isfinite(value) else None
            self.progress.best_step = self.progress.step
            self.checkpoints.save("best", self.model, asdict(self.progress))
        if math.isfinite(value):
            self._save("good")
        else:
            self._save("latest")

    def _budget_spent(self) -> bool:
        if self.progress.finished or self.progress.epoch >= self.config.epochs:
            return True
        at_end = self.progress.epoch == self.config.epochs - 1 and self.progress.batch >= self.problem.steps_per_epoch
        out_of_steps = self.config.max_steps is not None and self.progress.step >= self.config.max_steps
        minutes = self.progress.seconds / 60
        out_of_time = self.config.max_minutes is not None and minutes >= self.config.max_minutes
        patience = self.config.patience
        out_of_patience = patience is not None and self.progress.evaluations_without_gain >= patience
        return at_end or out_of_steps or out_of_time or out_of_patience

    def _next_epoch(self) -> None:
        self.progress.epoch += 1
        self.progress.batch = 0
        self.carried = None

    def _resume_or_start(self) -> None:
        newest = self.checkpoints.newest(*FULL_KINDS)
        if newest is None:
            self.checkpoints.root.mkdir(parents=True, exist_ok=True)
            self.history.rewind(-1)
            self.samples.rewind(-1)
            self._save("good")
        else:
            self._load(newest)
            self.resumed_from_step = self.progress.step
            logger.info("resuming training from step %d (%s)", self.progress.step, newest.name)
        if self.progress.batch >= self.problem.steps_per_epoch and not self._budget_spent():
            self._next_epoch()
        self._clock = time.perf_counter()

    def _load(self, folder: Path) -> None:
        plain, state = load_checkpoint(folder, self.model)
        plain.pop("format")
        self.progress = Progress(**plain)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        restore_generators(state["generators"], self.device)
        self.carried = _move_state(state["carried"], self.device)
        self._curve = CurvePoint(**{**state["curve"], "started": time.perf_counter()})
        self.history.rewind(self.progress.step)
        self.samples.rewind(self.progress.step)

    def _save(self, kind: str) -> None:
        state: dict[str, Any] = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generators": generator_states(self.device),
            "carried": self.carried,
            "curve": asdict(self._curve),
        }
        self.checkpoints.save(kind, self.model, asdict(self.progress), state)
        self._saved_at = time.perf_counter()

    def _interrupt(self, stop: StopRequest) -> None:
        raise InterruptedTraining(
            f"Stopped by {stop.name} at step {self.progress.step}; the state is saved, and the same command goes on "
            "from there.",
            stop.signal_number,
        )

    def _tick(self) -> None:
        now = time.perf_counter()
        self.progress.seconds += now - self._clock
        self._clock = now

    @property
    def _loss_so_far(self) -> float:
        return self._curve.loss / self._curve.steps if self._curve.steps else math.nan

    def _add_to_curve(self, batch: Batch, loss: float, norm: float, clipped: bool, learning_rate: float) -> None:
        curve = self._curve
        curve.steps += 1
        curve.loss += loss
        curve.gradient_norm += norm
        curve.clipped += clipped
        curve.tokens += batch.num_tokens
        curve.cells += batch.num_places
        if curve.steps < self.config.log_every and self.progress.step > 1:
            return
        seconds = time.perf_counter() - curve.started
        self._log(
            {
                "train/loss": curve.loss / curve.steps,
                "train/gradient_norm": curve.gradient_norm / curve.steps,
                "train/clipped_fraction": curve.clipped / curve.steps,
                "train/learning_rate": learning_rate,
                "train/tokens_per_second": curve.tokens / seconds,
                "train/padding_fraction": 1 - curve.tokens / curve.cells,
            }
        )
        self._curve = CurvePoint()

    def _log(self, metrics: dict[str, float]) -> None:
        self.history.append(metrics, self.progress.step)
        self.metric_logger.log(metrics, self.progress.step)


def _move_state(state: Iterable[Iterable[torch.Tensor]] | None, device: torch.device) -> CarriedState:
    return None if state is None else tuple(tuple(part.to(device) for part in layer) for layer in state)
