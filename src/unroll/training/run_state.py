"""Where a training run stands: plain numbers, all of them in every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Progress:
    """How far a run is, and what happened to it on the way."""

    step: int = 0
    """Optimizer updates."""
    epoch: int = 0
    batch: int = 0
    """Batches read of this epoch."""
    seconds: float = 0.0
    """Training time, restarts and evaluations counted in."""
    tokens: int = 0
    best_value: float | None = None
    """Best finite validation score; None before there is one."""
    best_step: int = 0
    last_value: float | None = None
    """Validation score of the last evaluation; None before there is one."""
    evaluations_without_gain: int = 0
    evaluated_step: int = -1
    bad_in_a_row: int = 0
    skipped_steps: int = 0
    clipped_steps: int = 0
    rollbacks: int = 0
    learning_rate_scale: float = 1.0
    finished: bool = False
    history_bytes: int = 0
    """Size of the curves' file; what a killed run wrote beyond it is dropped."""
    samples_bytes: int = 0


@dataclass
class CurvePoint:
    """Sums over the steps since the last point of the training curves."""

    steps: int = 0
    loss: float = 0.0
    gradient_norm: float = 0.0
    clipped: int = 0
    tokens: int = 0
    places: int = 0
    """Places in the batches, padding counted in."""
    seconds: float = 0.0
    """Reading and training on the batches; neither evaluations nor checkpoints."""

    @property
    def mean_loss(self) -> float:
        """Nats per item or character, not a number before the first step."""
        return self.loss / self.steps if self.steps else float("nan")

    def metrics(self, learning_rate: float) -> dict[str, float]:
        """The point, as it is logged."""
        return {
            "train/loss": self.mean_loss,
            "train/gradient_norm": self.gradient_norm / self.steps,
            "train/clipped_fraction": self.clipped / self.steps,
            "train/learning_rate": learning_rate,
            "train/tokens_per_second": self.tokens / max(self.seconds, 1e-9),
            "train/padding_fraction": 1 - self.tokens / self.places,
        }
