from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from unroll.errors import DataError
from unroll.evaluation.classification import ClassificationReport, evaluate_classification


def make_items(num_items: int, num_classes: int, seed: int, decimals: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (few distinct ones, so that ties occur) and labels drawn from them: calibrated by construction."""
    generator = np.random.default_rng(seed)
    probs = np.round(generator.dirichlet(np.full(num_classes, 0.7), num_items), decimals) + 10.0**-decimals
    probs /= probs.sum(axis=1, keepdims=True)
    labels = (generator.random((num_items, 1)) > np.cumsum(probs, axis=1)).sum(axis=1).clip(max=num_classes - 1)
    return probs, labels


def evaluate(probs: np.ndarray, labels: np.ndarray, bootstrap_samples: int = 100) -> ClassificationReport:
    names = [f"class {index}" for index in range(probs.shape[1])]
    return evaluate_classification(probs, labels, names, bootstrap_samples=bootstrap_samples)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), num_classes=st.integers(2, 5), decimals=st.integers(1, 4))
def test_values_are_those_of_scikit_learn(seed: int, num_classes: int, decimals: int) -> None:
    probs, labels = make_items(300, num_classes, seed, decimals)
    report, preds, classes = evaluate(probs, labels, 5), probs.argmax(axis=1), range(num_classes)
    expected = {
        "accuracy": metrics.accuracy_score(labels, preds),
        "f1_macro": metrics.f1_score(labels, preds, average="macro"),
        "f1": metrics.f1_score(labels, preds, average="binary" if num_classes == 2 else "macro"),
        "log_loss": metrics.log_loss(labels, probs, labels=classes),
        "brier": metrics.brier_score_loss(labels, probs, labels=list(classes)),
    }
    if len(np.unique(labels)) == num_classes:
        scores = probs[:, 1] if num_classes == 2 else probs
        expected["roc_auc"] = metrics.roc_auc_score(labels, scores, multi_class="ovr")
    for name, value in expected.items():
        assert report.metrics[name].value == pytest.approx(value, abs=1e-9), name


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), num_classes=st.integers(2, 4))
def test_the_confusion_matrix_counts_every_item_once_by_its_true_class(seed: int, num_classes: int) -> None:
    probs, labels = make_items(80, num_classes, seed)
    report = evaluate(probs, labels, 5)
    matrix = np.asarray(report.confusion_matrix)
    assert matrix.sum() == report.num_items == 80
    assert matrix.sum(axis=1).tolist() == np.bincount(labels, minlength=num_classes).tolist()
    assert matrix.sum(axis=0).tolist() == np.bincount(probs.argmax(axis=1), minlength=num_classes).tolist()
    assert [score.support for score in report.classes] == matrix.sum(axis=1).tolist()


def test_intervals_hold_their_values_and_narrow_with_more_items() -> None:
    small, large = (evaluate(*make_items(size, 2, seed=1), bootstrap_samples=400) for size in (200, 5_000))
    for name, interval in small.metrics.items():
        assert interval.low <= interval.value <= interval.high, name
        assert large.metrics[name].high - large.metrics[name].low < 0.5 * (interval.high - interval.low), name


def test_the_interval_of_accuracy_is_as_wide_as_the_binomial_one() -> None:
    probs, labels = make_items(4_000, 2, seed=1)
    accuracy = evaluate(probs, labels, 2_000).metrics["accuracy"]
    expected_width = 2 * 1.96 * np.sqrt(accuracy.value * (1 - accuracy.value) / 4_000)
    assert accuracy.high - accuracy.low == pytest.approx(expected_width, rel=0.08)


def test_over_confidence_is_measured_and_calibrated_probabilities_pass() -> None:
    probs, labels = make_items(20_000, 2, seed=1)
    sharpened = probs**3 / (probs**3).sum(axis=1, keepdims=True)
    honest, boastful = evaluate(probs, labels), evaluate(sharpened, labels)
    assert honest.metrics["expected_calibration_error"].value < 0.015
    assert boastful.metrics["expected_calibration_error"].low > 0.05
    assert all(each.mean_confidence > each.accuracy for each in boastful.calibration[:-3])


def test_calibration_bins_are_of_equal_mass_whatever_the_order_of_items() -> None:
    probs, labels = make_items(3_000, 2, seed=1, decimals=9)
    by_label = np.argsort(labels, kind="stable")
    report, sorted_report = evaluate(probs, labels), evaluate(probs[by_label], labels[by_label])
    assert [each.count for each in report.calibration] == [200] * 15
    for one, other in zip(report.calibration, sorted_report.calibration, strict=True):
        assert one.accuracy == pytest.approx(other.accuracy)


def test_items_of_equal_confidence_share_a_bin_even_when_sorted_by_label() -> None:
    labels = np.repeat([0, 1], 500)
    report = evaluate(np.full((1_000, 2), 0.5), labels)
    assert len(report.calibration) == 1
    assert report.metrics["expected_calibration_error"].value == pytest.approx(0.0)
    assert report.metrics["roc_auc"].value == 0.5


def test_a_class_without_test_items_leaves_out_roc_auc_and_says_why() -> None:
    probs, labels = make_items(200, 3, seed=1)
    report = evaluate(probs, np.where(labels == 2, 0, labels))
    assert "roc_auc" not in report.metrics
    assert report.absent == {"roc_auc": "the labels hold no class 2"}
    assert np.isfinite([interval.value for interval in report.metrics.values()]).all()


def test_a_rare_class_missing_from_some_resamples_leaves_finite_intervals() -> None:
    probs, labels = make_items(60, 2, seed=1)
    labels = np.where(np.arange(60) == 7, 1, 0)
    assert labels.sum() == 1
    auc = evaluate(probs, labels, 300).metrics["roc_auc"]
    assert 0 <= auc.low <= auc.high <= 1


def test_a_certain_and_wrong_prediction_costs_much_but_not_infinitely() -> None:
    report = evaluate(np.asarray([[1.0, 0.0], [0.0, 1.0]]), np.asarray([1, 0]))
    assert 30 < report.metrics["log_loss"].value < 40
    assert report.metrics["brier"].value == 1.0


def test_the_report_survives_json_and_the_seed_fixes_it() -> None:
    probs, labels = make_items(150, 3, seed=1)
    first, again = evaluate(probs, labels), evaluate(probs, labels)
    read_back = json.loads(json.dumps(first.to_dict(), allow_nan=False))
    assert read_back == json.loads(json.dumps(again.to_dict()))
    assert set(read_back["metrics"]["accuracy"]) == {"value", "low", "high"}


@pytest.mark.parametrize(
    ("probs", "labels", "message"),
    [
        ([[0.5, 0.5]], [2], "labels run from 2"),
        ([[0.5, 0.5]], [-1], "unlabelled"),
        ([[0.5, 0.5]], [0, 1], "shape"),
        ([[0.5, 0.5]], [0.5], "whole numbers"),
        ([[2.0, -1.0]], [0], "softmax"),
        ([[0.9, 0.9]], [0], "softmax"),
        ([[np.nan, 1.0]], [0], "not finite"),
        ([[0.2, 0.3, 0.5]], [0], "class names"),
        (np.zeros((0, 2)), [], "at least one"),
    ],
)
def test_what_is_no_probability_or_no_label_is_refused(probs: list, labels: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_classification(probs, labels, ["no", "yes"])
