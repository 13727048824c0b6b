"""Figures of a run: learning curves, gradients, confusion, ROC, calibration, loss by position, ours against the rival.

Figures are made as objects, without pyplot's global state, and draw with Agg. Colours are Okabe and Ito's, told apart
by the colour-blind; lines differ in dash as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter, PercentFormatter
from numpy.typing import ArrayLike

from unroll.evaluation.classification import CalibrationBin
from unroll.evaluation.intervals import FloatArray, Interval

BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442",
)  # fmt: skip
CURVE_STYLES = tuple(zip((BLUE, ORANGE, GREEN, PURPLE, SKY, RED), ("-", "--", "-.", ":", "-", "--"), strict=True))
GREY = "#666666"
STEP_AXIS = "step (optimizer updates)"
AXIS_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "roc_auc": "ROC-AUC",
    "bits_per_char": "bits per character",
    "nats_per_char": "nats per character",
    "perplexity": "perplexity per character",
    "log_loss": "log loss (nats)",
}
MOST_NUMBERED_CLASSES = 15
"""A larger confusion matrix shows colours only."""

History = Sequence[Mapping[str, Any]]
"""Records with a `step` and any of the metrics logged at it."""


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the path's ending names. PNG files hold no date or version."""
    figure.savefig(path, dpi=120, metadata={"Software": None} if path.suffix == ".png" else None)


def learning_curves(history: History) -> Figure:
    """Losses, and below them the validation score by which the model was chosen, over optimizer updates."""
    scores = [name for name in ("accuracy", "bits_per_char") if len(_series(history, f"validation/{name}")[0])]
    figure, panels = make_panels(1 + bool(scores))
    _draw_curve(panels[0], history, "train/loss", "train", BLUE, "-")
    _draw_curve(panels[0], history, "validation/loss", "validation", ORANGE, "--")
    finish(panels[0], "Loss", STEP_AXIS, "loss (nats)")
    if scores:
        name = scores[0]
        _draw_curve(panels[1], history, f"validation/{name}", "validation", ORANGE, "--")
        _mark_best(panels[1], history, f"validation/{name}", highest=name == "accuracy")
        finish(panels[1], "Score", STEP_AXIS, AXIS_NAMES[name])
    return figure


def gradient_norms(history: History, max_gradient_norm: float | None = None) -> Figure:
    """The gradient's norm before clipping at each logged step, the threshold, and the share of steps clipped."""
    figure, (axes,) = make_panels(1)
    steps, norms = _series(history, "train/gradient_norm")
    steps, norms = steps[norms > 0], norms[norms > 0]
    title = "Gradient norm"
    if len(norms):
        axes.plot(steps, norms, color=BLUE, linewidth=1.2, label="before clipping")
        set_log_scale(axes, norms)
    if len(norms) and max_gradient_norm is not None:
        axes.axhline(max_gradient_norm, color=RED, linestyle="--", label=f"threshold {max_gradient_norm:g}")
        _, fractions = _series(history, "train/clipped_fraction")
        clipped = fractions if len(fractions) else norms > max_gradient_norm
        title += f": {clipped.mean():.0%} of steps clipped"
    finish(axes, title, STEP_AXIS, "norm over all parameters (log scale)")
    return figure


def confusion_matrix(matrix: ArrayLike, class_names: Sequence[str]) -> Figure:
    """Counts by true class (rows) and predicted class (columns); the colour is the share of the true class.

    matrix: (K, K).
    """
    counts = np.asarray(matrix, dtype=np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, (axes,) = make_panels(1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(counts) <= MOST_NUMBERED_CLASSES:
        size = 12 if len(counts) <= 4 else 7
        for (row, column), count in np.ndenumerate(counts):
            share = shares[row, column]
            text = f"{count:,}\n{share:.1%}" if len(counts) <= 4 else f"{count:,}"
            axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black", size=size)
        axes.set_xticks(range(len(counts)), class_names, rotation=0 if len(counts) <= 4 else 90)
        axes.set_yticks(range(len(counts)), class_names)
    figure.colorbar(image, ax=axes, format=PercentFormatter(1.0, decimals=0), label="share of the true class")
    axes.set(title="Confusion matrix (test)", xlabel="predicted class", ylabel="true class")
    return figure


def roc_curve(labels: ArrayLike, probs: ArrayLike, class_names: Sequence[str] | None = None) -> Figure:
    """True against false positive rate: of class 1 where there are two, else of each of the most frequent classes.

    labels: (N,). probs: (N, K). class_names: K of them; without, classes go by their number.
    """
    from sklearn.metrics import auc
    from sklearn.metrics import roc_curve as points_of_curve

    true_classes, scores = np.asarray(labels), np.asarray(probs)
    support = np.bincount(true_classes, minlength=scores.shape[1])
    shown = [1] if scores.shape[1] == 2 else list(np.argsort(-support, kind="stable")[: len(CURVE_STYLES)])
    names = class_names or [f"class {index}" for index in range(scores.shape[1])]
    figure, (axes,) = make_panels(1)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="by chance")
    for class_index, (colour, dash) in zip(shown, CURVE_STYLES, strict=False):
        if 0 < support[class_index] < len(true_classes):
            false_rate, true_rate, _ = points_of_curve(true_classes == class_index, scores[:, class_index])
            label = f"{names[class_index]} (area {auc(false_rate, true_rate):.3f})"
            axes.plot(false_rate, true_rate, color=colour, linestyle=dash, linewidth=2, label=label)
    axes.set_aspect("equal")
    finish(axes, "ROC curve (test)", "false positive rate", "true positive rate")
    return figure


def calibration(bins: Sequence[CalibrationBin]) -> Figure:
    """Accuracy against confidence, one point a bin of equally many items: below the diagonal is over-confident."""
    figure, (axes,) = make_panels(1)
    confidence = [each.mean_confidence for each in bins]
    accuracy = [each.accuracy for each in bins]
    least = max(0.0, min([0.5, *confidence, *accuracy]) - 0.05)
    axes.plot([least, 1], [least, 1], color=GREY, linewidth=1, linestyle=":", label="calibrated")
    axes.vlines(confidence, confidence, accuracy, color=RED, linewidth=1, label="gap")
    axes.plot(confidence, accuracy, color=BLUE, marker="o", linewidth=1.5, label="bins of equally many items")
    axes.set(xlim=(least, 1.01), ylim=(least, 1.01), aspect="equal")
    finish(axes, "Calibration (test)", "mean confidence", "accuracy")
    return figure


def loss_per_position(mean: ArrayLike, low: ArrayLike, high: ArrayLike, confidence: float = 0.95) -> Figure:
    """Mean loss at each position of a window with its interval: what does the text read so far save?

    mean, low, high: (T,) nats.
    """
    figure, (axes,) = make_panels(1)
    positions = np.arange(1, np.size(mean) + 1)
    axes.fill_between(positions, low, high, color=SKY, alpha=0.4, linewidth=0, label=f"{confidence:.0%} interval")
    axes.plot(positions, mean, color=BLUE, linewidth=1.5, label="mean over windows")
    finish(axes, "Loss by position (test)", "position in the window (characters)", "loss (nats)")
    return figure


def rival_bars(
    metric: str, ours: Interval, rival: Interval, floor: float | None = None, rival_name: str = "rival"
) -> Figure:
    """Our score and the rival's with their intervals, and the best value that any model can reach, where known.

    metric: its name as in the report without the split, for example `bits_per_char`, or words for the axis.
    """
    figure, (axes,) = make_panels(1)
    for place, (score, colour) in enumerate(((ours, BLUE), (rival, ORANGE))):
        reach = [[max(0.0, score.value - score.low)], [max(0.0, score.high - score.value)]]
        axes.errorbar([place], [score.value], yerr=reach, fmt="o", color=colour, markersize=10, capsize=10, linewidth=2)
        axes.annotate(f"{score.value:.4g}", (place, score.value), (16, 0), textcoords="offset points", va="center")
    if floor is not None:
        axes.axhline(floor, color=GREEN, linestyle="--", label=f"floor {floor:.4g}: no model can do better")
    axes.set_xticks([0, 1], ["ours", rival_name])
    axes.set_xlim(-0.6, 1.6)
    axes.margins(y=0.25)
    better = "higher" if metric in {"accuracy", "f1", "f1_macro", "roc_auc"} else "lower"
    finish(axes, "Ours against the rival (test)", "", f"{AXIS_NAMES.get(metric, metric)} ({better} is better)")
    return figure


def make_panels(count: int, share_x: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure with some axes one below the other, which share what is below them unless told otherwise."""
    figure = Figure(figsize=(6.4, 4.6 if count == 1 else 3.2 * count), layout="constrained")
    axes = np.atleast_1d(figure.subplots(count, 1, sharex=share_x))
    for each in axes:
        each.tick_params(labelsize=11)
        each.xaxis.label.set_size(12)
        each.yaxis.label.set_size(12)
    return figure, list(axes)


def finish(axes: Axes, title: str, x_name: str, y_name: str) -> None:
    """Title, names of both axes with their units, grid and legend."""
    axes.set(xlabel=x_name, ylabel=y_name)
    axes.set_title(title, fontsize=13)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if not axes.has_data():
        axes.text(0.5, 0.5, "nothing was logged", transform=axes.transAxes, ha="center", color=GREY, size=12)
    elif axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=11, frameon=False)


def _series(history: History, name: str) -> tuple[FloatArray, FloatArray]:
    """Steps and finite values of the records that hold the metric; each (n,)."""
    points = [(record["step"], record[name]) for record in history if record.get(name) is not None]
    table = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    table = table[np.isfinite(table[:, 1])]
    return table[:, 0], table[:, 1]


def set_log_scale(axes: Axes, values: FloatArray) -> None:
    """A logarithmic scale around some positive values, numbered so that it can be read."""
    axes.set_yscale("log")
    axes.set_ylim(values.min() / 1.5, values.max() * 1.5)
    # over several decades, powers of ten are enough
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if values.max() < 1000 * values.min() else (1,)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_curve(axes: Axes, history: History, name: str, label: str, colour: str, dash: str) -> None:
    steps, values = _series(history, name)
    if len(steps):
        marker = "o" if len(steps) <= 30 else ""
        axes.plot(steps, values, color=colour, linestyle=dash, marker=marker, markersize=4, linewidth=1.6, label=label)


def _mark_best(axes: Axes, history: History, name: str, highest: bool) -> None:
    steps, values = _series(history, name)
    best = int(values.argmax() if highest else values.argmin())
    label = f"best: {values[best]:.4g} at step {steps[best]:,.0f}"
    axes.plot([steps[best]], [values[best]], "*", color=GREEN, markersize=14, label=label)
