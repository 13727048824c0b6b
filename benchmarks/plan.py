"""What a row is, how large its bouts are, and which rows there are. No PyTorch in here: the command answers soon."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Contestant
from benchmarks.ratios import Promise


@dataclass(frozen=True)
class Plan:
    """How a run was asked for."""

    work_folder: str
    """Corpora, checkpoints and whatever else is made on the way; the rows of a run share it."""
    quick: bool = False
    """Tiny sizes on made data: does everything run?"""
    real_corpora: bool = False
    """IMDb and The Mysterious Island, rather than data made here."""
    rounds: int | None = None
    """Rounds of every row; None leaves each its own number."""
    accuracy_epochs: int = 0
    """Epochs for which both sides of the sentiment row are trained to show their test accuracy; 0 trains ours alone, on
    the real corpus, and compares it with recorded runs."""
    seed: int = 1
    """Of weights, orders and which reviews are drawn."""

    @property
    def folder(self) -> Path:
        """The work folder."""
        return Path(self.work_folder)

    def num_rounds(self, usual: int) -> int:
        """Rounds of a row that usually has so many."""
        return self.rounds or (2 if self.quick else usual)

    def to_json(self) -> str:
        """One line, from which `from_json` makes the same plan in another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """What `to_json` wrote."""
        return cls(**json.loads(text))


def no_checks() -> dict[str, Any]:
    """Nothing to check."""
    return {}


@dataclass(frozen=True)
class Row:
    """One comparison, ready to run."""

    unit: str
    """Of the values: an amount per second, such as `reviews/s`; `s`, seconds for each piece of work; or, as `MiB`, an
    amount whatever the time it took."""
    data: str
    """What the work is done on."""
    contestants: tuple[Contestant, ...]
    promises: tuple[Promise, ...]
    rounds: int
    notes: tuple[str, ...] = ()
    checks: Callable[[], dict[str, Any]] = no_checks
    """Called once after the rounds: what shows that the contestants did the same work. Names and plain values."""


@dataclass(frozen=True)
class RowEntry:
    """A row by name, not yet made."""

    title: str
    module: str
    """Module whose ``make_row(plan)`` returns the `Row`."""
    seconds: float
    """Expected on two quiet cores, on the real corpora."""
    quick_seconds: float


ROWS = {
    "products": RowEntry("The machine: matrix products", "benchmarks.rows.products", 25, 5),
    "memory": RowEntry("The machine: memory", "benchmarks.rows.memory", 10, 3),
    "sentiment": RowEntry("Sentiment, training", "benchmarks.rows.sentiment", 240, 12),
    "language-model": RowEntry("Language model, training", "benchmarks.rows.language_model", 160, 15),
    "generation": RowEntry("Generation", "benchmarks.rows.generation", 25, 4),
    "preparation": RowEntry("Preparation of reviews", "benchmarks.rows.preparation", 90, 3),
    "scoring": RowEntry("Scoring of many reviews", "benchmarks.rows.scoring", 60, 6),
    "latency": RowEntry("Scoring of one review", "benchmarks.rows.latency", 40, 6),
    "peak-memory": RowEntry("Memory of training", "benchmarks.rows.peak_memory", 170, 40),
    "start-up": RowEntry("Start-up", "benchmarks.rows.start_up", 20, 8),
    "cached-flow": RowEntry("A flow whose stages are all kept", "benchmarks.rows.cached_flow", 330, 120),
}
QUICK_ROWS = tuple(name for name in ROWS if name not in ("cached-flow", "peak-memory"))
"""What --quick runs: a flow, or half a dozen processes, take their time however small the work."""
