"""How long a run lasts: epochs, steps, minutes, patience; and where in it a run stands."""

from __future__ import annotations

from unroll.config import TrainingConfig
from unroll.training.run_state import Progress


class Budget:
    """The end of a run, and the places of its evaluations."""

    def __init__(self, config: TrainingConfig, steps_per_epoch: int) -> None:
        """steps_per_epoch: batches in a pass over the training split."""
        self.config = config
        self.steps_per_epoch = steps_per_epoch

    @property
    def total_batches(self) -> int:
        """Batches of the whole run, as far as epochs and steps decide."""
        total = self.config.epochs * self.steps_per_epoch
        return total if self.config.max_steps is None else min(total, self.config.max_steps)

    def batches_done(self, progress: Progress) -> int:
        """Batches read since the run's start, skipped steps counted in."""
        return progress.epoch * self.steps_per_epoch + progress.batch

    def share_done(self, progress: Progress) -> float:
        """How much of the run is done, 0 to 1: by the clock where that is further than the batches."""
        share = self.batches_done(progress) / self.total_batches
        if self.config.max_minutes is not None:
            # a slow machine anneals by the clock rather than being cut off at the peak
            share = max(share, progress.seconds / (60 * self.config.max_minutes))
        return min(share, 1.0)

    def spent(self, progress: Progress) -> bool:
        """Whether training is over."""
        config = self.config
        out_of_batches = self.batches_done(progress) >= config.epochs * self.steps_per_epoch
        out_of_steps = config.max_steps is not None and progress.step >= config.max_steps
        out_of_time = config.max_minutes is not None and progress.seconds >= 60 * config.max_minutes
        out_of_patience = config.patience is not None and progress.evaluations_without_gain >= config.patience
        return progress.finished or out_of_batches or out_of_steps or out_of_time or out_of_patience

    def epoch_over(self, progress: Progress) -> bool:
        """Whether the last batch of an epoch has been read."""
        return progress.batch >= self.steps_per_epoch

    def evaluation_due(self, progress: Progress) -> bool:
        """Whether this batch ends one of an epoch's evenly spaced parts; the epoch's last batch always does."""
        batch, parts = progress.batch, self.config.evaluations_per_epoch
        return batch * parts // self.steps_per_epoch > (batch - 1) * parts // self.steps_per_epoch
