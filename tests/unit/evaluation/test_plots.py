from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from unroll.evaluation import plots
from unroll.evaluation.classification import CalibrationBin
from unroll.evaluation.intervals import Interval

HISTORY: list[dict[str, Any]] = [
    {"step": 10, "train/loss": 0.7, "train/gradient_norm": 2.0, "train/clipped_fraction": 0.5},
    {"step": 20, "train/loss": 0.5, "train/gradient_norm": 0.5, "train/clipped_fraction": 0.0},
    {"step": 20, "validation/loss": 0.6, "validation/accuracy": 0.81},
    {"step": 30, "validation/loss": 0.7, "validation/accuracy": 0.79},
]
BINS = [CalibrationBin(0.5, 0.7, 0.6, 0.65, 10), CalibrationBin(0.7, 1.0, 0.9, 0.8, 10)]
LABELS, PROBS = np.asarray([0, 1, 1, 0]), np.asarray([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
FIGURES: dict[str, Callable[[], Figure]] = {
    "learning_curves": lambda: plots.learning_curves(HISTORY),
    "gradient_norms": lambda: plots.gradient_norms(HISTORY, 1.0),
    "confusion_matrix": lambda: plots.confusion_matrix([[3, 1], [0, 4]], ["no", "yes"]),
    "roc_curve": lambda: plots.roc_curve(LABELS, PROBS, ["no", "yes"]),
    "calibration": lambda: plots.calibration(BINS),
    "loss_per_position": lambda: plots.loss_per_position(np.ones(12), np.zeros(12), np.full(12, 2.0)),
    "rival_bars": lambda: plots.rival_bars("accuracy", Interval(0.9, 0.89, 0.91), Interval(0.88, 0.87, 0.89), 0.95),
}


def texts_of(figure: Figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_names_its_axes_and_is_written_as_png_the_same_twice(name: str, tmp_path: Path) -> None:
    written = []
    for attempt in ("first", "again"):
        figure = FIGURES[name]()
        plots.save(figure, tmp_path / f"{attempt}.png")
        written.append((tmp_path / f"{attempt}.png").read_bytes())
    assert written[0].startswith(b"\x89PNG")
    assert written[0] == written[1]
    for axes in figure.axes:
        assert axes.get_ylabel()
    assert figure.axes[0].get_title()


@pytest.mark.parametrize(
    "history",
    [[], [{"step": 1}], [{"step": 1, "train/loss": 1.0}], [{"step": 1, "train/loss": float("nan"), "x": None}]],
)
def test_empty_and_short_histories_still_draw(history: list[dict[str, Any]], tmp_path: Path) -> None:
    for figure in (plots.learning_curves(history), plots.gradient_norms(history, 1.0), plots.gradient_norms(history)):
        plots.save(figure, tmp_path / "figure.png")
    assert "nothing was logged" in texts_of(plots.gradient_norms(history, 1.0))


def test_the_best_validation_score_is_marked_in_its_own_direction() -> None:
    assert "best: 0.81 at step 20" in texts_of(plots.learning_curves(HISTORY))
    bits = [{"step": step, "validation/bits_per_char": 3 - step / 10} for step in (1, 2, 3)]
    assert "best: 2.7 at step 3" in texts_of(plots.learning_curves(bits))


def test_the_share_of_clipped_steps_is_the_logged_one_or_else_counted() -> None:
    assert "25% of steps clipped" in texts_of(plots.gradient_norms(HISTORY, 1.0))
    norms = [{"step": step, "train/gradient_norm": norm} for step, norm in enumerate((0.5, 2.0, 3.0, 4.0))]
    assert "75% of steps clipped" in texts_of(plots.gradient_norms(norms, 1.0))


def test_the_confusion_matrix_shows_counts_and_shares_of_the_true_class() -> None:
    texts = texts_of(FIGURES["confusion_matrix"]())
    assert "3\n75.0%" in texts
    assert "4\n100.0%" in texts


def test_the_roc_curve_names_its_area_and_skips_classes_without_items() -> None:
    assert "yes (area 1.000)" in texts_of(FIGURES["roc_curve"]())
    probs = np.random.default_rng(0).dirichlet(np.ones(9), 40)
    texts = texts_of(plots.roc_curve(np.arange(40) % 2, probs))
    assert "class 1 (area" in texts
    assert "class 2 (area" not in texts


def test_the_loss_at_a_position_is_drawn_at_its_place_counted_from_one() -> None:
    figure = plots.loss_per_position([3.1, 2.1, 1.1], [3.0, 2.0, 1.0], [3.2, 2.2, 1.2])
    (line,) = figure.axes[0].get_lines()
    assert np.asarray(line.get_xdata()).tolist() == [1, 2, 3]
    assert np.asarray(line.get_ydata()) == pytest.approx([3.1, 2.1, 1.1])


def test_the_rival_figure_says_which_way_is_better_and_what_the_floor_is() -> None:
    lower = plots.rival_bars("bits_per_char", Interval(1.7, 1.6, 1.8), Interval(1.8, 1.7, 1.9), 1.5, "counts")
    assert lower.axes[0].get_ylabel() == "bits per character (lower is better)"
    in_words = plots.rival_bars("bits per character", Interval(1.7, 1.6, 1.8), Interval(1.8, 1.7, 1.9))
    assert in_words.axes[0].get_ylabel() == lower.axes[0].get_ylabel()
    assert "floor 1.5" in texts_of(lower)
    assert "counts" in texts_of(lower)
    assert "higher is better" in FIGURES["rival_bars"]().axes[0].get_ylabel()


def test_drawing_leaves_pyplot_alone() -> None:
    code = "import sys, unroll.evaluation.plots as p; p.learning_curves([]); print('matplotlib.pyplot' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
