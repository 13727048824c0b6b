"""The gate: whether a new version becomes champion. Pure functions of folders; the registry is the caller's.

*promoted*: no champion yet and the floor is met, or shown to be better than the champion on the same test items.
*held*: not shown to be better. *rejected*: shown to be worse, or below the floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unroll.config import AnyConfig, GateConfig, LanguageModelConfig, SentimentConfig
from unroll.data.corpora import ReviewCorpus, TextCorpus
from unroll.data.splits import split_reviews
from unroll.errors import RegistryError
from unroll.evaluation.comparison import Comparison, compare_classifiers, compare_language_models
from unroll.evaluation.report import EvaluationReport
from unroll.evaluation.running_text import read_test_text, score_test_text
from unroll.evaluation.sentiment import read_test_items
from unroll.models.saved import load_model
from unroll.prediction import SentimentPredictor
from unroll.training.device import resolve_device

Outcome = Literal["promoted", "held", "rejected"]


@dataclass(frozen=True)
class Decision:
    """What the gate decided, and why."""

    outcome: Outcome
    reason: str
    evidence: dict[str, Any] | None = None


def judge_first(report: EvaluationReport, gate: GateConfig) -> Decision:
    """Decide on a version where there is no champion."""
    if gate.floor is None:
        return Decision("promoted", "first version: there was no champion to compare with")
    higher_is_better = report.project == "sentiment"
    name = "test/accuracy" if higher_is_better else "test/bits_per_char"
    value = report.metrics[name].value
    fits = value >= gate.floor if higher_is_better else value <= gate.floor
    words = f"{name} {value:.4f} against the floor {gate.floor:g}"
    return Decision("promoted" if fits else "rejected", f"first version: {words}")


def judge_against(comparison: Comparison) -> Decision:
    """Decide on a version that was compared with the champion."""
    if comparison.better:
        outcome: Outcome = "promoted"
    else:
        outcome = "rejected" if comparison.high < 0 else "held"
    return Decision(outcome, comparison.sentence, comparison.to_dict())


def compare_with_champion(
    config: AnyConfig, corpus_folder: Path, champion_folder: Path, evaluation_folder: Path
) -> Comparison:
    """Score the champion anew on the items that the challenger was evaluated on, and test the difference.

    Raises RegistryError where the champion tells other classes apart or the items differ, CheckpointError where it
    cannot be loaded.
    """
    predictions = pd.read_parquet(evaluation_folder / "predictions.parquet")
    report = EvaluationReport.load(evaluation_folder)
    gate = config.registry.gate
    if isinstance(config, SentimentConfig):
        champion_correct = _champion_correct(config, corpus_folder, champion_folder, report)
        challenger_correct = (predictions["prediction"] == predictions["label"]).to_numpy()
        return compare_classifiers(champion_correct, challenger_correct, gate.alpha, gate.minimum_gain, config.seed)
    champion_nats = _champion_nats(config, corpus_folder, champion_folder, report)
    challenger_nats = predictions["nats"].to_numpy()
    return compare_language_models(champion_nats, challenger_nats, gate.alpha, gate.minimum_gain, config.seed)


def _champion_correct(
    config: SentimentConfig, corpus_folder: Path, champion_folder: Path, report: EvaluationReport
) -> NDArray[np.bool_]:
    corpus = ReviewCorpus.open(corpus_folder)
    items = read_test_items(corpus, split_reviews(corpus, config.data, config.seed))
    _require_same_items(items.digest, report)
    predictor = SentimentPredictor.load(champion_folder, resolve_device(config.training.device))
    if predictor.class_names != corpus.class_names:
        raise RegistryError(
            f"The champion tells {', '.join(predictor.class_names)} apart, the new version "
            f"{', '.join(corpus.class_names)}; register it under another name (registry.name)."
        )
    correct: NDArray[np.bool_] = predictor.predict(items.texts).argmax(axis=1) == items.labels
    return correct


def _champion_nats(
    config: LanguageModelConfig, corpus_folder: Path, champion_folder: Path, report: EvaluationReport
) -> NDArray[np.float64]:
    test = read_test_text(TextCorpus.open(corpus_folder), config)
    _require_same_items(test.digest, report)
    saved = load_model(champion_folder, resolve_device(config.training.device))
    if not isinstance(saved.config, LanguageModelConfig):
        raise RegistryError(
            f"The champion is a model of the project {saved.config.project}, expected a language model; register the "
            "new version under another name (registry.name)."
        )
    return score_test_text(saved, test)


def _require_same_items(digest: str, report: EvaluationReport) -> None:
    if digest != report.test_digest:
        raise RegistryError(
            f"The test items ({digest[:12]}) are not those that the new version was evaluated on "
            f"({report.test_digest[:12]}); run again with --from evaluate."
        )
