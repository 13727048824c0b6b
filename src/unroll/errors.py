"""What can go wrong, as a tree. Every message says what was found, what was expected and what to do.

UnrollError
├── ConfigError            a setting is unknown, out of bounds or contradicts another   (exit code 2)
├── DataError              a corpus is missing, damaged or of the wrong shape
│   ├── DownloadError      neither the mirror nor the network gave the corpus
│   └── ValidationError    the corpus was read, and its rows are not fit to train on
├── StoreError             an artifact cannot be written, or is not what was written
├── CheckpointError        a checkpoint cannot be read, or belongs to other settings
├── TrainingError
│   ├── DivergedError      the loss stayed non-finite through every roll-back
│   └── InterruptedTraining   asked to stop (SIGTERM, SIGINT); the state is saved
├── PredictionError        a text or prompt cannot be scored
│   └── InterruptedScoring   asked to stop (SIGTERM, SIGINT); the parts that are done are kept
├── RegistryError          the model registry cannot be read or written
└── RetrainingFailed       any of these, with the account of the retraining that it ended (`unroll.retraining`)
"""

from __future__ import annotations


class UnrollError(Exception):
    """Base of every error that a user can cause or mend; the command line prints it without a traceback."""

    exit_code: int = 1

    @property
    def stopped_by(self) -> int:
        """The signal that asked to stop, with what was reached saved; 0 if none did."""
        return max(self.exit_code - 128, 0)


class ConfigError(UnrollError):
    """A setting is unknown, out of bounds, or contradicts another."""

    exit_code = 2


class DataError(UnrollError):
    """A corpus is missing, damaged or of the wrong shape."""


class DownloadError(DataError):
    """Neither the mirror nor the network gave the corpus."""


class ValidationError(DataError):
    """The corpus was read, and its rows are not fit to train on."""


class StoreError(UnrollError):
    """An artifact cannot be written, or is not what was written."""


class CheckpointError(UnrollError):
    """A checkpoint cannot be read, or belongs to other settings."""


class TrainingError(UnrollError):
    """Training cannot go on."""


class DivergedError(TrainingError):
    """The loss or the gradient stayed non-finite through every roll-back."""


class InterruptedTraining(TrainingError):  # noqa: N818 - an interruption is no fault
    """Training was asked to stop; what was reached is saved, and the same command goes on from there."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class PredictionError(UnrollError):
    """A text or prompt cannot be scored."""


class InterruptedScoring(PredictionError):  # noqa: N818 - an interruption is no fault
    """Scoring a file was asked to stop; whole parts are kept, and the same command goes on after them."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class RegistryError(UnrollError):
    """The model registry cannot be read or written, or holds something else than expected."""
