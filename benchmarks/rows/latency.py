"""One review from text to probability: how long it takes, at two shapes, and the plain way."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.measure import WARM_UP, Bout, Contestant, Lap, Stopwatch
from benchmarks.plain_scoring import PlainScorer
from benchmarks.plan import Plan, Row
from benchmarks.ratios import Promise
from benchmarks.rows.scoring import SHAPES, make_predictor, test_reviews

WORDS = 230
"""Of a review: about the mean of IMDb."""
CALLS = 200
"""Of a bout."""
QUICK_CALLS = 5
ASKED_SECONDS = 0.010


def make_row(plan: Plan) -> Row:
    """For each shape: the plain way and ours, a call a review, over reviews cut to the same number of words."""
    words = " ".join(test_reviews(plan, 400)).split()
    texts = [" ".join(words[start : start + WORDS]) for start in range(0, len(words) - WORDS, WORDS)]
    calls = min(QUICK_CALLS if plan.quick else CALLS, len(texts))
    seconds: dict[str, list[float]] = {}
    contestants: list[Contestant] = []
    promises: list[Promise] = []
    for shape in SHAPES:
        predictor = make_predictor(shape, plan)
        plain = PlainScorer(predictor)
        for name, what, work in (
            (f"{shape}: plain", "tokenised, packed, no_grad, float32", lambda text, plain=plain: plain.score([text])),
            (
                f"{shape}: unroll",
                "SentimentPredictor.predict of one text, float32",
                lambda text, predictor=predictor: predictor.predict([text]),
            ),
        ):
            contestants.append(_contestant(name, what, work, texts[:calls], seconds))
        promises += [
            Promise(f"{shape}: a review of {WORDS} words, seconds", f"{shape}: unroll", at_most=ASKED_SECONDS),
            Promise(f"{shape}: the plain way's seconds over ours", f"{shape}: plain", f"{shape}: unroll"),
        ]
    return Row(
        unit="s",
        data=f"{calls} reviews of {WORDS} words, one a call; untrained models of the presets {' and '.join(SHAPES)}",
        contestants=tuple(contestants),
        promises=tuple(promises),
        rounds=plan.num_rounds(5),
        notes=("A round's value is the median of its calls.",),
        checks=lambda: {"latency_ms": {name: _percentiles(of_name) for name, of_name in seconds.items()}},
    )


def _contestant(
    name: str, what: str, work: Callable[[str], object], texts: list[str], seconds: dict[str, list[float]]
) -> Contestant:
    seconds[name] = []

    def bout(number: int) -> Bout:
        watch = Stopwatch()
        of_bout = []
        for text in texts[:5] if number == WARM_UP else texts:
            started = perf_counter()
            work(text)
            of_bout.append(perf_counter() - started)
        lap = watch.lap()
        if number != WARM_UP:
            seconds[name] += of_bout
        share = float(np.median(of_bout)) / lap.seconds
        elsewhere = None if lap.elsewhere_seconds is None else lap.elsewhere_seconds * share
        return Bout(1, Lap(lap.seconds * share, lap.cpu_seconds / len(of_bout), elsewhere))

    return Contestant(name, what, bout)


def _percentiles(seconds: list[float]) -> dict[str, Any]:
    """Milliseconds of all rounds' calls."""
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1e3
    return {"calls": len(seconds), "p50": round(float(p50), 3), "p99": round(float(p99), 3)}
