"""Which curves there are, and their sizes. No PyTorch in here: the command answers soon."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Curve:
    """Time and memory of one piece of work over one size."""

    title: str
    module: str
    """Module whose ``measure(point)`` measures a point."""
    size_name: str
    """What the horizontal axis counts."""
    time_name: str
    """What takes the seconds."""
    sizes: tuple[int, ...]
    """Of corpora: how many times the book or IMDb; else what `size_name` says."""
    quick_sizes: tuple[int, ...]
    seconds: float
    """Expected of all points together, on two quiet cores."""
    expected: str
    """The exponent of time that theory gives, and why."""
    has_fixed_part: bool = False
    """Whether a straight line says what does not grow."""


_CORPORA, _MODELS = "benchmarks.growth.corpus_points", "benchmarks.growth.model_points"
_EPOCH = "an epoch, from the seconds of a step"

CURVES = {
    "text-encoding": Curve(
        title="Text: encoding",
        module=_CORPORA,
        size_name="characters",
        time_name="the encode stage",
        sizes=(1, 10, 100),
        quick_sizes=(1, 2),
        seconds=25,
        expected="1: the text is read three times, piece by piece",
        has_fixed_part=True,
    ),
    "text-epoch": Curve(
        title="Text: an epoch of training",
        module=_CORPORA,
        size_name="characters",
        time_name=_EPOCH,
        sizes=(1, 10, 100),
        quick_sizes=(1, 2),
        seconds=40,
        expected="1: a step costs the same, an epoch has as many steps as the text has windows",
    ),
    "reviews-encoding": Curve(
        title="Reviews: encoding",
        module=_CORPORA,
        size_name="reviews",
        time_name="the encode stage",
        sizes=(1, 2, 4),
        quick_sizes=(1, 2),
        seconds=90,
        expected="1: reviews are read chunk by chunk; their digests are sorted, which hardly shows",
        has_fixed_part=True,
    ),
    "reviews-epoch": Curve(
        title="Reviews: an epoch of training",
        module=_CORPORA,
        size_name="reviews",
        time_name=_EPOCH,
        sizes=(1, 2, 4),
        quick_sizes=(1, 2),
        seconds=60,
        expected="1: a step costs the same but for the lengths of the reviews that it draws",
    ),
    "text-hidden": Curve(
        title="Language model: hidden units",
        module=_MODELS,
        size_name="hidden units",
        time_name="a step",
        sizes=(64, 128, 256, 512, 1024),
        quick_sizes=(8, 16),
        seconds=90,
        expected="between 1 and 2: the recurrence has H·4H weights, input and output layers have some H",
    ),
    "reviews-hidden": Curve(
        title="Sentiment: hidden units",
        module=_MODELS,
        size_name="hidden units",
        time_name="a step",
        sizes=(32, 64, 128, 256, 512),
        quick_sizes=(8, 16),
        seconds=90,
        expected="between 1 and 2, and less where the embedding of 30,000 words is most of the model",
    ),
    "text-window": Curve(
        title="Language model: window",
        module=_MODELS,
        size_name="characters of a window",
        time_name="a step",
        sizes=(10, 25, 50, 100, 200, 400),
        quick_sizes=(4, 8),
        seconds=70,
        expected="1, and less at short windows, where what a step costs anyway shows",
        has_fixed_part=True,
    ),
    "reviews-length": Curve(
        title="Sentiment: length of reviews",
        module=_MODELS,
        size_name="tokens of a review",
        time_name="a step",
        sizes=(50, 100, 200, 400, 800, 1600),
        quick_sizes=(4, 8),
        seconds=100,
        expected="1, and less at short reviews, where what a step costs anyway shows",
        has_fixed_part=True,
    ),
}


@dataclass(frozen=True)
class Point:
    """One size of one curve, measured in a process of its own."""

    curve: str
    size: int
    work_folder: str
    """Corpora made for one point are found there by the next."""
    quick: bool
    real_corpora: bool
    """The Mysterious Island and IMDb, repeated and changed, rather than made ones."""
    seed: int = 1

    def to_json(self) -> str:
        """One line, from which `from_json` makes the same point in another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Point:
        """What `to_json` wrote."""
        return cls(**json.loads(text))
