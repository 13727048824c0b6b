"""How well a classifier does on items it has not seen: metrics with intervals, confusion, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from unroll.errors import DataError
from unroll.evaluation.intervals import (
    FloatArray,
    IntArray,
    Interval,
    bootstrap_counts,
    bootstrap_items,
    percentile_interval,
    require_finite,
)

CALIBRATION_BINS = 15
"""As in Guo et al. 2017."""
SUM_TOLERANCE = 1e-3
"""How far the probabilities of an item may sum from one; half precision needs this much."""


@dataclass(frozen=True)
class ClassScore:
    """How one class was found; each rate is 0 where it divides by nothing."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class CalibrationBin:
    """Items of like confidence (the probability of the predicted class) and the share of them that were right."""

    low: float
    high: float
    mean_confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class ClassificationReport:
    """What `evaluate_classification` found.

    metrics: `accuracy`, `f1`, `f1_macro`, `roc_auc`, `log_loss`, `brier`, `expected_calibration_error`.
    absent: why a metric is not among them. confusion_matrix: (K, K), rows true, columns predicted.
    """

    num_items: int
    confidence: float
    metrics: Mapping[str, Interval]
    absent: Mapping[str, str]
    classes: tuple[ClassScore, ...]
    confusion_matrix: tuple[tuple[int, ...], ...]
    calibration: tuple[CalibrationBin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def evaluate_classification(
    probs: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    confidence: float = 0.95,
    bootstrap_samples: int = 1_000,
    seed: int = 1,
) -> ClassificationReport:
    """Score class probabilities against the true classes, with bootstrap intervals over items.

    probs: (N, K), rows sum to one. labels: (N,) integers below K. The metrics:

    - `f1`: of class 1 where there are two classes, else the same as `f1_macro`: the mean over classes that occur.
    - `roc_auc`: of class 1, or the mean over one class against the rest; absent where the labels lack a class.
    - `log_loss`: nats. `brier`: squared error of the probabilities, summed over classes (Brier 1950), and for two
      classes halved, which is the positive class's own.
    - `expected_calibration_error`: mean over items of |accuracy - mean confidence| of their bin (Guo et al. 2017,
      equation 3), in 15 bins of equal mass rather than width; items of equal confidence share a bin.

    Raises DataError: shapes or labels that do not fit, values that are no probabilities.
    """
    checked_probs, checked_labels = _check_inputs(probs, labels, class_names)
    confusion, classes = _confusion(checked_probs, checked_labels, class_names)
    metrics = _count_metrics(confusion, classes, confidence, bootstrap_samples, seed)
    scores = _ItemScores.of(checked_probs, checked_labels)
    metrics |= _item_metrics(scores, confidence, bootstrap_samples, seed)
    missing = [score.name for score in classes if score.support == 0]
    absent = {"roc_auc": f"the labels hold no {', '.join(missing)}"} if missing else {}
    return ClassificationReport(
        num_items=len(checked_labels),
        confidence=confidence,
        metrics=metrics,
        absent=absent,
        classes=classes,
        confusion_matrix=tuple(tuple(int(count) for count in row) for row in confusion),
        calibration=_calibration_bins(scores),
    )


def _check_inputs(probs: ArrayLike, labels: ArrayLike, class_names: Sequence[str]) -> tuple[FloatArray, IntArray]:
    checked = require_finite("probs", probs, ndim=2)
    num_items, num_classes = checked.shape
    if num_classes != len(class_names) or num_classes < 2:
        raise DataError(f"probs has {num_classes} columns for {len(class_names)} class names; expected one each, 2 up.")
    label_array = np.asarray(labels)
    if label_array.shape != (num_items,) or not np.issubdtype(label_array.dtype, np.integer):
        raise DataError(
            f"labels is {label_array.dtype} of shape {label_array.shape}; expected ({num_items},) whole numbers."
        )
    if label_array.min() < 0 or label_array.max() >= num_classes:
        raise DataError(
            f"labels run from {label_array.min()} to {label_array.max()}; expected 0 to {num_classes - 1}. "
            "Leave unlabelled items out."
        )
    sums = checked.sum(axis=1)
    if checked.min() < 0 or np.abs(sums - 1).max() > SUM_TOLERANCE:
        raise DataError(
            f"probs has a least value of {checked.min():.4g} and rows that sum to {sums.min():.4g} at least and "
            f"{sums.max():.4g} at most; expected probabilities that sum to 1. Pass them through a softmax."
        )
    return checked, label_array.astype(np.int64)


def _confusion(
    probs: FloatArray, labels: IntArray, class_names: Sequence[str]
) -> tuple[IntArray, tuple[ClassScore, ...]]:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    preds, all_classes = probs.argmax(axis=1), np.arange(len(class_names))
    rates = precision_recall_fscore_support(labels, preds, labels=all_classes, zero_division=0.0)
    classes = tuple(
        ClassScore(str(name), float(precision), float(recall), float(f1), int(support))
        for name, precision, recall, f1, support in zip(class_names, *rates, strict=True)
    )
    return confusion_matrix(labels, preds, labels=all_classes).astype(np.int64), classes


def _count_metrics(
    confusion: IntArray, classes: tuple[ClassScore, ...], confidence: float, bootstrap_samples: int, seed: int
) -> dict[str, Interval]:
    """Metrics that read the confusion matrix alone, so that resampling its cells is resampling the items."""
    resampled = bootstrap_counts(confusion, bootstrap_samples, [seed, 0]).astype(np.float64)
    hits = np.diagonal(resampled, axis1=1, axis2=2)
    marginals = resampled.sum(axis=1) + resampled.sum(axis=2)
    class_f1 = np.divide(2 * hits, marginals, out=np.zeros_like(marginals), where=marginals > 0)
    f1 = np.asarray([score.f1 for score in classes])
    occurs = (confusion.sum(axis=0) + confusion.sum(axis=1)) > 0

    total = confusion.sum()
    accuracy = percentile_interval(np.trace(confusion) / total, hits.sum(axis=1) / total, confidence)
    macro = percentile_interval(f1[occurs].mean(), class_f1[:, occurs].mean(axis=1), confidence)
    positive = percentile_interval(f1[1], class_f1[:, 1], confidence) if len(f1) == 2 else macro
    return {"accuracy": accuracy, "f1": positive, "f1_macro": macro}


@dataclass(frozen=True)
class _ItemScores:
    """Per item: its losses (N,), confidence and its gap to being right (N,), its bin (N,), its place for each AUC."""

    log_loss: FloatArray
    brier: FloatArray
    confidence: FloatArray
    gap: FloatArray
    bin: IntArray
    auc_cells: tuple[IntArray, ...]

    @classmethod
    def of(cls, probs: FloatArray, labels: IntArray) -> _ItemScores:
        num_items, num_classes = probs.shape
        own = probs[np.arange(num_items), labels]
        # sum over k of (p_k - y_k)^2, without the one-hot matrix
        brier = (probs**2).sum(axis=1) - 2 * own + 1
        confidence = probs.max(axis=1)
        scored_classes = range(num_classes) if num_classes > 2 else (1,)
        complete = len(np.unique(labels)) == num_classes
        return cls(
            log_loss=-np.log(np.maximum(own, np.finfo(np.float64).eps)),
            brier=brier / 2 if num_classes == 2 else brier,
            confidence=confidence,
            gap=(probs.argmax(axis=1) == labels) - confidence,
            bin=_equal_mass_bins(confidence),
            auc_cells=tuple(_auc_cells(probs[:, k], labels == k) for k in scored_classes) if complete else (),
        )

    def summarise(self, items: IntArray) -> list[float]:
        """Log loss, Brier score, calibration error and (where every class occurs) ROC-AUC of the items at (n,)."""
        gaps = np.bincount(self.bin[items], weights=self.gap[items])
        values = [self.log_loss[items].mean(), self.brier[items].mean(), np.abs(gaps).sum() / len(items)]
        if self.auc_cells:
            values.append(np.mean([_auc_of_cells(cells[items]) for cells in self.auc_cells]))
        return [float(value) for value in values]


def _item_metrics(scores: _ItemScores, confidence: float, bootstrap_samples: int, seed: int) -> dict[str, Interval]:
    num_items = len(scores.bin)
    measured = scores.summarise(np.arange(num_items))
    resampled = bootstrap_items(num_items, scores.summarise, bootstrap_samples, [seed, 1])
    names = ["log_loss", "brier", "expected_calibration_error", "roc_auc"][: len(measured)]
    metrics = {
        name: percentile_interval(value, column, confidence)
        for name, value, column in zip(names, measured, resampled.T, strict=True)
    }
    calibration = metrics["expected_calibration_error"]
    return metrics | {"expected_calibration_error": _reflect(calibration)}


def _reflect(interval: Interval) -> Interval:
    """The basic bootstrap interval within [0, 1], stretched to hold the value.

    The calibration error is a sum of absolute values: noise only adds to it, and resampling adds the noise once more
    (Kumar et al. 2019). Reflecting the percentiles about the value takes that second helping off.
    """
    low, high = 2 * interval.value - interval.high, 2 * interval.value - interval.low
    return Interval(interval.value, max(0.0, min(low, interval.value)), min(1.0, max(high, interval.value)))


def _auc_cells(class_probs: FloatArray, is_class: np.ndarray[Any, np.dtype[np.bool_]]) -> IntArray:
    """Twice the rank among distinct scores, plus one for the class's own items: all that ROC-AUC reads of an item."""
    _, ranks = np.unique(class_probs, return_inverse=True)
    return 2 * ranks.astype(np.int64) + is_class


def _auc_of_cells(cells: IntArray) -> float:
    """Share of (own, other) pairs in the right order, ties half (Hanley and McNeil 1982); NaN without a pair."""
    counts = np.bincount(cells, minlength=int(cells.max()) // 2 * 2 + 2).reshape(-1, 2)
    others, own = counts[:, 0].astype(np.float64), counts[:, 1].astype(np.float64)
    num_pairs = others.sum() * own.sum()
    if num_pairs == 0:
        return float("nan")
    return float(own @ (np.cumsum(others) - others / 2) / num_pairs)


def _equal_mass_bins(confidence: FloatArray) -> IntArray:
    # by the middle rank among equals: the order in which ties stand in the file must not decide their bin
    _, group, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    middle_rank = (np.cumsum(counts) - (counts + 1) / 2)[group]
    return (middle_rank * CALIBRATION_BINS / len(confidence)).astype(np.int64)


def _calibration_bins(scores: _ItemScores) -> tuple[CalibrationBin, ...]:
    bins = []
    for index in np.unique(scores.bin):
        inside = scores.bin == index
        confidence = scores.confidence[inside]
        mean = float(confidence.mean())
        accuracy = mean + float(scores.gap[inside].mean())
        bins.append(CalibrationBin(float(confidence.min()), float(confidence.max()), mean, accuracy, int(inside.sum())))
    return tuple(bins)
