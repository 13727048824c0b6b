from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from unroll.config import AnyConfig
from unroll.errors import RegistryError, StoreError
from unroll.evaluation.behaviour import count_failures, save_behaviour
from unroll.evaluation.comparison import Comparison, compare_classifiers, compare_language_models
from unroll.evaluation.gate import compare_with_rival, judge_against, judge_first
from unroll.evaluation.intervals import Interval
from unroll.evaluation.report import EvaluationReport, Rival
from unroll.presets import load_config

NUM_ITEMS = 2_000


def evaluate(folder: Path, project: str = "sentiment", rival: float | None = None, own: float = 0.9) -> Path:
    """An evaluation folder in which the model has accuracy `own` (or that many bits), the rival `rival`."""
    generator = np.random.default_rng(0)
    if project == "sentiment":
        labels = generator.integers(0, 2, NUM_ITEMS)
        own_right, rival_right = (generator.random(NUM_ITEMS) < share for share in (own, rival or 0.0))
        columns: dict[str, Any] = {"label": labels, "prediction": np.where(own_right, labels, 1 - labels)}
        if rival is not None:
            positive = np.where(rival_right, labels, 1 - labels) * 0.8 + 0.1
            columns |= {"rival_probability_negative": 1 - positive, "rival_probability_positive": positive}
        metric = "test/accuracy"
    else:
        columns = {"nats": generator.gamma(2.0, own * np.log(2) / 2, 9_000)}
        if rival is not None:
            columns["rival_nats"] = columns["nats"] + (rival - own) * np.log(2) + generator.normal(0, 0.1, 9_000)
        metric = "test/bits_per_char"
    pd.DataFrame(columns).to_parquet(folder / "predictions.parquet", index=False)
    EvaluationReport(
        project=project,
        metrics={metric: Interval(own, own - 0.01, own + 0.01)},
        rival=None if rival is None else Rival("a rival", {metric: Interval(rival, rival, rival)}),
        test_digest="digest",
        num_items=NUM_ITEMS,
        confidence=0.95,
        details={"class_names": ["negative", "positive"]} if project == "sentiment" else {},
    ).save(folder)
    return folder


def gate(project: str = "sentiment", **settings: Any) -> AnyConfig:
    return load_config(project, "sample", [f"registry.gate.{name}={value}" for name, value in settings.items()])


def compare(champion: float, challenger: float, bar: float = 0.0) -> Comparison:
    hardness = np.random.default_rng(1).random(NUM_ITEMS)
    return compare_classifiers(hardness < champion, hardness < challenger, bar=bar)


def test_a_first_version_is_promoted_where_nothing_is_asked_of_it(tmp_path: Path) -> None:
    decision = judge_first(gate(), evaluate(tmp_path))
    assert decision.outcome == "promoted"
    assert decision.reason == "first version: there was no champion to compare with."
    assert decision.evidence is None


@pytest.mark.parametrize(
    ("project", "own", "floor", "outcome"),
    [
        ("sentiment", 0.9, 0.85, "promoted"),
        ("sentiment", 0.9, 0.95, "rejected"),
        ("language_model", 2.0, 2.1, "promoted"),
        ("language_model", 2.0, 1.9, "rejected"),
    ],
)
def test_the_floor_holds_for_the_first_version(
    project: str, own: float, floor: float, outcome: str, tmp_path: Path
) -> None:
    decision = judge_first(gate(project, floor=floor), evaluate(tmp_path, project, own=own))
    assert decision.outcome == outcome
    assert f"the floor {floor:g}" in decision.reason
    assert decision.evidence is not None
    assert decision.evidence["floor"]["floor"] == floor


def test_the_floor_holds_for_a_later_version_even_if_it_is_better_than_the_champion(tmp_path: Path) -> None:
    better = compare(0.80, 0.90)
    assert judge_against(gate(), evaluate(tmp_path), better).outcome == "promoted"
    decision = judge_against(gate(floor=0.95), tmp_path, better)
    assert decision.outcome == "rejected"
    assert decision.reason.startswith("test/accuracy 0.9000 does not meet the floor 0.95.")
    assert "is better than the champion" in decision.reason


@pytest.mark.parametrize(
    ("champion", "challenger", "outcome"),
    [(0.80, 0.90, "promoted"), (0.90, 0.80, "rejected"), (0.90, 0.9005, "held"), (0.90, 0.90, "held")],
)
def test_a_comparison_promotes_rejects_or_holds(
    champion: float, challenger: float, outcome: str, tmp_path: Path
) -> None:
    decision = judge_against(gate(), evaluate(tmp_path), compare(champion, challenger))
    assert decision.outcome == outcome
    assert decision.evidence is not None
    assert decision.evidence["champion"]["sentence"] in decision.reason


@pytest.mark.parametrize(
    ("project", "own", "rival", "outcome"),
    [
        ("sentiment", 0.9, 0.8, "promoted"),
        ("sentiment", 0.8, 0.9, "rejected"),
        ("sentiment", 0.9, 0.9, "held"),
        ("language_model", 2.0, 2.2, "promoted"),
        ("language_model", 2.2, 2.0, "rejected"),
    ],
)
def test_a_first_version_must_beat_its_rival_where_that_is_set(
    project: str, own: float, rival: float, outcome: str, tmp_path: Path
) -> None:
    folder = evaluate(tmp_path, project, rival=rival, own=own)
    assert judge_first(gate(project), folder).outcome == "promoted"
    decision = judge_first(gate(project, must_beat_rival="true"), folder)
    assert decision.outcome == outcome
    assert "than the rival" in decision.reason


def test_a_version_better_than_the_champion_but_not_than_the_rival_is_not_promoted(tmp_path: Path) -> None:
    folder = evaluate(tmp_path, rival=0.95, own=0.9)
    decision = judge_against(gate(must_beat_rival="true"), folder, compare(0.8, 0.9))
    assert decision.outcome == "rejected"
    assert set(decision.evidence or {}) == {"champion", "rival"}


def test_the_rivals_scores_are_paired_item_by_item(tmp_path: Path) -> None:
    evaluate(tmp_path, rival=0.8)
    predictions = pd.read_parquet(tmp_path / "predictions.parquet")
    rival_right = (predictions["rival_probability_positive"] > 0.5) == (predictions["label"] == 1)
    own_right = predictions["prediction"] == predictions["label"]
    assert compare_with_rival(gate(), tmp_path) == compare_classifiers(rival_right, own_right, opponent="rival")

    folder = tmp_path / "text"
    folder.mkdir()
    evaluate(folder, "language_model", rival=2.1, own=2.0)
    losses = pd.read_parquet(folder / "predictions.parquet")
    expected = compare_language_models(losses["rival_nats"], losses["nats"], opponent="rival")
    assert compare_with_rival(gate("language_model"), folder) == expected


def test_a_rival_that_was_not_scored_is_an_error_and_no_promotion(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"must_beat_rival .*run again"):
        judge_first(gate(must_beat_rival="true"), evaluate(tmp_path))


def test_predictions_that_cannot_be_read_are_an_error_and_no_promotion(tmp_path: Path) -> None:
    evaluate(tmp_path, rival=0.8)
    (tmp_path / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="--from evaluate"):
        judge_first(gate(must_beat_rival="true"), tmp_path)


def test_no_worse_is_enough_where_a_margin_is_set(tmp_path: Path) -> None:
    margin = gate(non_inferiority_margin=0.02)
    assert margin.registry.gate.bar == -0.02
    as_good = compare(0.90, 0.90, margin.registry.gate.bar)
    assert judge_against(margin, evaluate(tmp_path), as_good).outcome == "promoted"
    worse = compare(0.90, 0.80, margin.registry.gate.bar)
    assert judge_against(margin, tmp_path, worse).outcome == "rejected"


@pytest.mark.parametrize(("failures", "outcome"), [(0, "promoted"), (10, "promoted"), (13, "held"), (40, "rejected")])
def test_behaviour_can_block_the_gate_where_that_is_set(failures: int, outcome: str, tmp_path: Path) -> None:
    evaluate(tmp_path)
    failed = [number < failures for number in range(100)]
    good, tested = (
        count_failures(name, "invariance", "a promise", which, ["case"] * 100, 0.95)
        for name, which in (("good", [False] * 100), ("tested", failed))
    )
    save_behaviour([good, tested], tmp_path)
    assert judge_first(gate(), tmp_path).outcome == "promoted"
    decision = judge_first(gate(max_behaviour_failures=0.1), tmp_path)
    assert decision.outcome == outcome
    assert ("tested in" in decision.reason) == (outcome != "promoted")
    assert "good" not in decision.reason


def test_behaviour_that_was_not_tested_holds_a_version_where_it_is_asked_for(tmp_path: Path) -> None:
    save_behaviour([], evaluate(tmp_path))
    decision = judge_against(gate(max_behaviour_failures=1), tmp_path, compare(0.8, 0.9))
    assert decision.outcome == "held"
    assert "No behaviour test fits" in decision.reason
    (tmp_path / "behaviour.json").unlink()
    with pytest.raises(StoreError, match="--from evaluate"):
        judge_first(gate(max_behaviour_failures=1), tmp_path)
