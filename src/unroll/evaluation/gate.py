"""The gate: whether a new version becomes champion. Pure functions of folders; the registry is the caller's.

A version must meet the floor, be better than its rival and behave well where that is asked for, and, where there is a
champion, be shown to pass the comparison with it. *promoted*: all of this. *rejected*: one is shown to fail. *held*:
there is not enough evidence for one. Each test has level alpha, and all must be passed, so a version that should not be
promoted through any one of them is so no more often than that (an intersection-union test: Berger 1982).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unroll.config import AnyConfig, LanguageModelConfig, SentimentConfig
from unroll.data.corpora import ReviewCorpus, TextCorpus
from unroll.data.splits import split_reviews
from unroll.errors import RegistryError, StoreError
from unroll.evaluation.behaviour import BehaviourResult, load_behaviour
from unroll.evaluation.comparison import Comparison, compare_classifiers, compare_language_models
from unroll.evaluation.decisions import Decision, Outcome
from unroll.evaluation.report import EvaluationReport
from unroll.evaluation.running_text import read_test_text, score_test_text
from unroll.evaluation.sentiment import read_test_items
from unroll.models.saved import load_model
from unroll.prediction import SentimentPredictor
from unroll.training.device import resolve_device

WEIGHT: dict[Outcome, int] = {"rejected": 0, "held": 1, "promoted": 2}
"""Of several findings the one of least weight decides."""


@dataclass(frozen=True)
class _Finding:
    """What one of the gate's questions came to."""

    question: str
    outcome: Outcome
    sentence: str
    evidence: dict[str, Any]


def judge_first(config: AnyConfig, evaluation_folder: Path) -> Decision:
    """Decide on a version where there is no champion.

    Raises RegistryError where the rival is to be beaten and was not scored.
    """
    decision = _decide(_judge_alone(config, evaluation_folder))
    reason = f"first version: there was no champion to compare with. {decision.reason}".strip()
    return Decision(decision.outcome, reason, decision.evidence)


def judge_against(config: AnyConfig, evaluation_folder: Path, comparison: Comparison) -> Decision:
    """Decide on a version that was compared with the champion. Raises as `judge_first` does."""
    return _decide([_finding(comparison), *_judge_alone(config, evaluation_folder)])


def compare_with_champion(
    config: AnyConfig, corpus_folder: Path, champion_folder: Path, evaluation_folder: Path
) -> Comparison:
    """Score the champion anew on the items that the challenger was evaluated on, and test the difference.

    Raises RegistryError where the champion tells other classes apart or the items differ, CheckpointError where it
    cannot be loaded.
    """
    predictions = _read_predictions(evaluation_folder)
    report = EvaluationReport.load(evaluation_folder)
    gate = config.registry.gate
    options = (gate.alpha, gate.bar, config.seed)
    if isinstance(config, SentimentConfig):
        champion_correct = _champion_correct(config, corpus_folder, champion_folder, report)
        return compare_classifiers(champion_correct, _own_correct(predictions), *options)
    champion_nats = _champion_nats(config, corpus_folder, champion_folder, report)
    return compare_language_models(champion_nats, predictions["nats"].to_numpy(), *options)


def compare_with_rival(config: AnyConfig, evaluation_folder: Path) -> Comparison:
    """Test whether the challenger is better than the rival that was scored on the same items.

    Raises RegistryError where none was.
    """
    predictions = _read_predictions(evaluation_folder)
    report = EvaluationReport.load(evaluation_folder)
    options = (config.registry.gate.alpha, 0.0, config.seed)
    if report.rival is None:
        raise RegistryError(
            f"{evaluation_folder} holds no scores of a rival, and registry.gate.must_beat_rival asks for them; set "
            "evaluation.rival to true and run again."
        )
    if isinstance(config, SentimentConfig):
        columns = [f"rival_probability_{name}" for name in report.details["class_names"]]
        rival_correct = predictions[columns].to_numpy().argmax(axis=1) == predictions["label"].to_numpy()
        return compare_classifiers(rival_correct, _own_correct(predictions), *options, opponent="rival")
    rival_nats, own_nats = predictions["rival_nats"].to_numpy(), predictions["nats"].to_numpy()
    return compare_language_models(rival_nats, own_nats, *options, opponent="rival")


def _decide(findings: list[_Finding]) -> Decision:
    # what decides comes first; sorting keeps the order of what weighs the same
    by_weight = sorted(findings, key=lambda finding: WEIGHT[finding.outcome])
    return Decision(
        by_weight[0].outcome if by_weight else "promoted",
        " ".join(finding.sentence for finding in by_weight),
        {finding.question: finding.evidence for finding in findings} or None,
    )


def _judge_alone(config: AnyConfig, evaluation_folder: Path) -> list[_Finding]:
    """What a version must show whether or not there is a champion."""
    gate = config.registry.gate
    findings = []
    if gate.floor is not None:
        findings.append(_judge_floor(EvaluationReport.load(evaluation_folder), gate.floor))
    if gate.must_beat_rival:
        findings.append(_finding(compare_with_rival(config, evaluation_folder)))
    if gate.max_behaviour_failures is not None:
        findings.append(_judge_behaviour(load_behaviour(evaluation_folder), gate.max_behaviour_failures))
    return findings


def _judge_floor(report: EvaluationReport, floor: float) -> _Finding:
    higher_is_better = report.project == "sentiment"
    name = "test/accuracy" if higher_is_better else "test/bits_per_char"
    value = report.metrics[name].value
    fits = value >= floor if higher_is_better else value <= floor
    words = f"{name} {value:.4f} {'meets' if fits else 'does not meet'} the floor {floor:g}."
    return _Finding(
        "floor", "promoted" if fits else "rejected", words, {"metric": name, "value": value, "floor": floor}
    )


def _judge_behaviour(results: list[BehaviourResult], most_failures: float) -> _Finding:
    """Rejected where a share of failures is shown to be too high, held where it is measured to be, or none was."""
    evidence = {
        "max_behaviour_failures": most_failures,
        "failures": {one.name: one.failure_rate.value for one in results},
    }
    if not results:
        words = (
            "No behaviour test fits the classes of this corpus, and registry.gate.max_behaviour_failures asks for them."
        )
        return _Finding("behaviour", "held", words, evidence)
    over = [one for one in results if one.failure_rate.value > most_failures]
    if not over:
        words = f"No behaviour test fails in more than {most_failures:.1%} of its cases."
        return _Finding("behaviour", "promoted", words, evidence)
    worst = ", ".join(
        f"{one.name} in {one.failure_rate.value:.1%} ({one.failure_rate.low:.1%} to {one.failure_rate.high:.1%})"
        for one in sorted(over, key=lambda one: -one.failure_rate.value)
    )
    shown = any(one.failure_rate.low > most_failures for one in over)
    words = f"Behaviour tests that fail in more than {most_failures:.1%} of their cases: {worst}."
    return _Finding("behaviour", "rejected" if shown else "held", words, evidence)


def _finding(comparison: Comparison) -> _Finding:
    outcome: Outcome = "promoted" if comparison.passed else "rejected" if comparison.failed else "held"
    return _Finding(comparison.opponent, outcome, comparison.sentence, comparison.to_dict())


def _read_predictions(evaluation_folder: Path) -> pd.DataFrame:
    path = evaluation_folder / "predictions.parquet"
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}); run again with --from evaluate.") from error


def _own_correct(predictions: pd.DataFrame) -> NDArray[np.bool_]:
    correct: NDArray[np.bool_] = (predictions["prediction"] == predictions["label"]).to_numpy()
    return correct


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
