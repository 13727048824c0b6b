"""The training loop of both projects.

`Trainer.fit` reads top to bottom. It can be killed at any instant and started again: everything that decides the
next step is in the checkpoint, so on a CPU the weights end in the same bits as those of a run never stopped.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unroll.config import TrainingConfig
from unroll.errors import DivergedError, InterruptedTraining
from unroll.models.recurrent import move_state
from unroll.precision import training_precision
from unroll.training.backward import Backward, ShardedBackward, WholeBackward, one_core
from unroll.training.budget import Budget
from unroll.training.checkpoint import CheckpointFolder, load_checkpoint, read_progress
from unroll.training.device import check_precision, resolve_device
from unroll.training.gradients import clip_gradients
from unroll.training.metrics import HISTORY_FILE, History, MetricLogger
from unroll.training.optim import learning_rate_at, make_optimizers, settle
from unroll.training.outcome import StepOutcome
from unroll.training.problem import Batch, CarriedState, Problem
from unroll.training.progress import OnProgress, ProgressLog, announce_evaluation
from unroll.training.run_state import CurvePoint, Progress
from unroll.training.seed import generator_states, restore_generators
from unroll.training.stop import StopRequest

logger = logging.getLogger(__name__)

FULL_KINDS = ("latest", "good")
"""Checkpoints that training can go on from; `best` holds weights alone."""
ADVICE = (
    "Lower training.learning_rate, clip gradients (training.clip=norm, training.max_gradient_norm), or use "
    "training.precision=float32."
)


class Trainer:
    """Trains one problem in one folder; see the module's text."""

    def __init__(
        self,
        problem: Problem,
        config: TrainingConfig,
        folder: Path,
        metric_logger: MetricLogger,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Move the model to the device. ``folder`` keeps the checkpoints and curves; a run found there goes on."""
        self.problem = problem
        self.config = config
        self.device = resolve_device(config.device)
        check_precision(config.precision, self.device)
        self.precision = training_precision(config.precision, problem.model, self.device)
        self.model = problem.model.to(self.device)
        self._parameters = list(self.model.parameters())
        self.optimizers = make_optimizers(self.model, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "float16")
        self.backward = self._make_backward()
        self.budget = Budget(config, problem.steps_per_epoch)
        self.progress = Progress()
        self.carried: CarriedState = None
        self.reads_late = self.device.type == "cuda" and config.optimizer != "sgd"
        """Whether a step's numbers are read after the next one was begun, so that a GPU never waits for the host. Then
        the optimizers themselves, which must be fused, skip a step that is not finite."""
        self._unread: StepOutcome | None = None
        self.checkpoints = CheckpointFolder(folder)
        self.history = History(folder / HISTORY_FILE)
        self.samples = History(folder / "samples.jsonl")
        self.metric_logger = metric_logger
        self.on_progress = on_progress
        self.resumed_from_step: int | None = None
        self._curve = CurvePoint()
        self._clock = time.perf_counter()
        self._saved_at = time.perf_counter()

    def fit(self) -> Progress:
        """Train to the end of the budget; leaves the kept checkpoint in the folder.

        Raises InterruptedTraining after SIGTERM or SIGINT (the state is saved first) and DivergedError when rolling
        back did not help.
        """
        self._resume_or_start()
        report = ProgressLog(self.budget.total_batches, self.problem.unit, self.config.max_minutes, self.on_progress)
        with StopRequest() as stop, one_core(isinstance(self.backward, ShardedBackward)):
            while not self.budget.spent(self.progress):
                if self.budget.epoch_over(self.progress):
                    self._next_epoch()

                for batch in self.problem.batches(self.progress.epoch, self.progress.batch):
                    rolled_back = self._train_on(batch)
                    report.update(self.budget.batches_done(self.progress), self.progress, self._curve.mean_loss)
                    evaluation_due = self.budget.evaluation_due(self.progress)
                    save_due = time.perf_counter() - self._saved_at > self.config.checkpoint_seconds
                    if evaluation_due or save_due or stop.requested or self._may_end():
                        rolled_back = rolled_back or self._read_outcome()
                    if rolled_back:
                        break

                    if evaluation_due:
                        self._evaluate()
                    elif save_due:
                        self._save("latest")

                    if stop.requested:
                        self._interrupt(stop)
                    if self.budget.spent(self.progress):
                        break
            self._evaluate()  # steps or minutes may have ended between two evaluations
        self._finish()
        return self.progress

    def _train_on(self, batch: Batch) -> bool:
        """One batch: forward, backward, clip, step. Returns whether the run was rolled back."""
        if not self.model.training:
            self.model.train()
        learning_rate = self._set_learning_rate()

        place = (self.progress.epoch, self.progress.batch)
        loss, carried = self.backward(batch.to(self.device), self.carried, place)
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm, clipped = clip_gradients(self._parameters, self.config)

        self.progress.batch += 1
        outcome = StepOutcome.send(loss, norm, clipped, batch.num_tokens, batch.num_places, learning_rate)
        if self.reads_late:
            rolled_back = self._read_outcome()
            if not rolled_back:
                self._step_where(torch.isfinite(loss + norm), carried)
                self._unread = outcome
            return rolled_back
        self.carried = None
        if outcome.is_finite:
            self.carried = carried
            self._step()
        return self._account(outcome)

    def _step(self) -> None:
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()

    def _step_where(self, finite: Tensor, carried: CarriedState) -> None:
        """Step and carry on if ``finite``, a scalar on the device, else leave the weights and carry zeros on."""
        if not self.scaler.is_enabled():  # a scaler tells the optimizers by itself
            for optimizer in self.optimizers:
                optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        self._step()
        self.carried = carried and tuple(
            tuple(torch.where(finite, part, torch.zeros_like(part)) for part in layer) for layer in carried
        )

    def _may_end(self) -> bool:
        """Whether the budget is spent, or will be once a step that was not read yet is counted."""
        steps = self.progress.step + (self._unread is not None)
        out_of_steps = self.config.max_steps is not None and steps >= self.config.max_steps
        return out_of_steps or self.budget.spent(self.progress)

    def _read_outcome(self) -> bool:
        """Read the step that was not read yet, if there is one. Returns whether the run was rolled back."""
        outcome, self._unread = self._unread, None
        return outcome is not None and self._account(outcome)

    def _account(self, outcome: StepOutcome) -> bool:
        """Count a step, or a skipped one. Returns whether the run was rolled back."""
        loss, _, clipped = outcome.read()
        if not outcome.is_finite:
            self._tick()
            return self._skip_step(math.isfinite(loss))
        self.progress.step += 1
        self.progress.bad_in_a_row = 0
        self.progress.clipped_steps += clipped
        self.progress.tokens += outcome.num_tokens
        self._add_to_curve(outcome)
        return False

    def _make_backward(self) -> Backward:
        if self.config.shards > 1 and self.device.type == "cpu":
            # the seed that the run began with: the weights were drawn from it
            return ShardedBackward(self.problem, self.precision, self.config.shards, torch.initial_seed())
        return WholeBackward(self.problem, self.scaler, self.device, self.precision)

    def _set_learning_rate(self) -> float:
        done = self.budget.share_done(self.progress)
        learning_rate = learning_rate_at(done, self.config) * self.progress.learning_rate_scale
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
        return learning_rate

    def _skip_step(self, loss_is_finite: bool) -> bool:
        """Count a step that left the weights alone; after several in a row go back to the last good checkpoint."""
        if self.scaler.is_enabled():
            scale = self.scaler.get_scale()
            if not self.reads_late:  # else the step, which was made in vain, has halved it
                self.scaler.update(scale / 2)
            if loss_is_finite and scale > 1.0:
                return False  # float16's scale is still finding its height; no fault of the model
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
                f"{before.learning_rate_scale:g}. {ADVICE}"
            )
        good = self.checkpoints.newest("good")
        assert good is not None  # written before the first step
        self._load(good)
        self.progress.rollbacks = before.rollbacks + 1
        self.progress.skipped_steps = before.skipped_steps
        self.progress.seconds = before.seconds
        self.progress.learning_rate_scale = before.learning_rate_scale / 2
        self.progress.bad_in_a_row = 0
        self._rewind_curves()
        self._log({"train/rollbacks": self.progress.rollbacks})
        self._save("good")
        logger.warning(
            "rolled back to step %d; the learning rate goes on at %g of its schedule",
            self.progress.step,
            self.progress.learning_rate_scale,
        )

    def _evaluate(self) -> None:
        """Score the validation split, save a state to go on from, and keep the best weights."""
        if self.progress.evaluated_step == self.progress.step:
            return
        settle(self.optimizers)
        metrics = self.problem.validate(self.device, self.precision)
        value = metrics[self.problem.score.name]
        self.progress.last_value = value
        improved = self.problem.score.improves(value, self.progress.best_value)
        self.progress.evaluated_step = self.progress.step
        self.progress.evaluations_without_gain = 0 if improved else self.progress.evaluations_without_gain + 1
        self._log({f"validation/{name}": number for name, number in metrics.items()})
        announce_evaluation(self.progress, self.config.epochs, metrics, improved)
        if not math.isfinite(value):
            self._save("latest")
            return

        sample = self.problem.sample(self.device)
        if sample is not None:
            self.samples.append({"epoch": self.progress.epoch + 1, "text": sample}, self.progress.step)
        if improved:
            self.progress.best_value = value
            self.progress.best_step = self.progress.step
        self._save("good")
        self._keep_best()

    def _keep_best(self) -> None:
        """Save the weights of the best evaluation, if it is this step's. Killed before, a restart does it."""
        if self.progress.best_value is None or self.progress.best_step != self.progress.step:
            return
        best = self.checkpoints.newest("best")
        if best is None or read_progress(best)["best_step"] != self.progress.best_step:
            self.checkpoints.save("best", self.model, asdict(self.progress))

    def _next_epoch(self) -> None:
        self.progress.epoch += 1
        self.progress.batch = 0
        self.carried = None

    def kept_checkpoint(self) -> Path:
        """The checkpoint whose weights become the model, once `fit` has returned."""
        kept = self.checkpoints.newest("best" if self.config.keep == "best" else "latest")
        assert kept is not None  # the loop ends with an evaluation and a save
        return kept

    def _finish(self) -> None:
        kept_value = self.progress.best_value if self.config.keep == "best" else self.progress.last_value
        if kept_value is None or not math.isfinite(kept_value):
            which = f"No evaluation in {self.progress.step} steps gave a"
            if self.config.keep == "last":
                which = f"The last evaluation, after {self.progress.step} steps, gave no"
            raise DivergedError(f"{which} finite {self.problem.score.name}. {ADVICE}")
        self.progress.finished = True
        self._save("latest")

    def _resume_or_start(self) -> None:
        newest = self.checkpoints.newest(*FULL_KINDS)
        if newest is None:
            self.checkpoints.root.mkdir(parents=True, exist_ok=True)
            self._rewind_curves()
            self._save("good")
        else:
            self._load(newest)
            self._rewind_curves()
            self._keep_best()
            self.resumed_from_step = self.progress.step
            logger.info("resuming training from step %d (%s)", self.progress.step, newest.name)
        self._clock = time.perf_counter()

    def _load(self, folder: Path) -> None:
        plain, state = load_checkpoint(folder, self.model)
        self.progress = Progress(**plain)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
        restore_generators(state["generators"], self.device)
        self.carried = move_state(state["carried"], self.device)
        self._curve = CurvePoint(**state["curve"])

    def _save(self, kind: str) -> None:
        self._tick(training=False)
        self.progress.history_bytes = self.history.sync()
        self.progress.samples_bytes = self.samples.sync()
        state: dict[str, Any] = {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "generators": generator_states(self.device),
            "carried": self.carried,
            "curve": asdict(self._curve),
        }
        self.checkpoints.save(kind, self.model, asdict(self.progress), state)
        self._saved_at = time.perf_counter()
        self._tick(training=False)

    def _rewind_curves(self) -> None:
        self.history.rewind(self.progress.history_bytes)
        self.samples.rewind(self.progress.samples_bytes)

    def _interrupt(self, stop: StopRequest) -> None:
        self._save("latest")
        raise InterruptedTraining(
            f"Stopped by {stop.name} at step {self.progress.step}; the state is saved, and the same command goes on "
            "from there.",
            stop.signal_number,
        )

    def _tick(self, training: bool = True) -> None:
        now = time.perf_counter()
        self.progress.seconds += now - self._clock
        if training:
            self._curve.seconds += now - self._clock
        self._clock = now

    def _add_to_curve(self, outcome: StepOutcome) -> None:
        self._tick()
        loss, norm, clipped = outcome.read()
        curve = self._curve
        curve.steps += 1
        curve.loss += loss
        curve.gradient_norm += norm
        curve.clipped += clipped
        curve.tokens += outcome.num_tokens
        curve.places += outcome.num_places
        if curve.steps >= self.config.log_every or self.progress.step == 1:
            self._log(curve.metrics(outcome.learning_rate))
            self._curve = CurvePoint()

    def _log(self, metrics: dict[str, float]) -> None:
        self.history.append(metrics, self.progress.step)
        self.metric_logger.log(metrics, self.progress.step)
