"""Behaviour tests of a trained model: promises that a score on a test split does not show.

As in Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList" (2020), a test is of one of
three kinds: *invariance* (a change that means nothing changes nothing), *direction* (a change that means something
moves the answer the right way) and *minimum_functionality* (plain cases that any such model must get right). The
cases of reviews are in behaviour_reviews.py, those of running text in behaviour_text.py; both are drawn with a seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from unroll.errors import StoreError
from unroll.evaluation.intervals import Interval
from unroll.files import write_json

Kind = Literal["invariance", "direction", "minimum_functionality"]

FILE_NAME = "behaviour.json"
SHOWN_FAILURES = 3


@dataclass(frozen=True)
class BehaviourResult:
    """How a model did in one test."""

    name: str
    kind: Kind
    promise: str
    """What the model is to do, in words."""
    num_cases: int
    num_failures: int
    failure_rate: Interval
    """Share of the cases, with its exact binomial interval (Clopper and Pearson 1934)."""
    examples: tuple[str, ...]
    """Some of the failed cases, for reading."""


def count_failures(
    name: str, kind: Kind, promise: str, failed: Sequence[bool], cases: Sequence[str], confidence: float
) -> BehaviourResult:
    """The result of a test of one case or more. failed, cases: (N,), the cases as a person may read them."""
    from scipy.stats import binomtest

    num_cases, num_failures = len(failed), sum(bool(one) for one in failed)
    bounds = binomtest(num_failures, num_cases).proportion_ci(confidence, method="exact")
    examples = [case for case, one in zip(cases, failed, strict=True) if one][:SHOWN_FAILURES]
    rate = Interval(num_failures / num_cases, float(bounds.low), float(bounds.high))
    return BehaviourResult(name, kind, promise, num_cases, num_failures, rate, tuple(examples))


def save_behaviour(results: Sequence[BehaviourResult], folder: Path) -> None:
    """Write behaviour.json."""
    write_json(folder / FILE_NAME, {"tests": [asdict(result) for result in results]})


def load_behaviour(folder: Path) -> list[BehaviourResult]:
    """Read what `save_behaviour` wrote. Raises StoreError where the file is missing or is something else."""
    try:
        plain = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        return [_result(one) for one in plain["tests"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder / FILE_NAME} cannot be read ({error}); run again with --from evaluate.") from error


def behaviour_table(results: Sequence[BehaviourResult]) -> list[str]:
    """Lines of a Markdown table, and of a list of failed cases where there are any."""
    lines = ["| behaviour test | kind | cases | failed | share, interval |", "|---|---|---|---|---|"]
    for result in results:
        rate = result.failure_rate
        lines.append(
            f"| {result.promise} | {result.kind.replace('_', ' ')} | {result.num_cases} | {result.num_failures} | "
            f"{rate.value:.3f} ({rate.low:.3f} to {rate.high:.3f}) |"
        )
    return lines


def _result(plain: dict[str, Any]) -> BehaviourResult:
    rate, examples = Interval(**plain.pop("failure_rate")), tuple(plain.pop("examples"))
    return BehaviourResult(**plain, failure_rate=rate, examples=examples)
