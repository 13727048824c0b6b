from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unroll.config import LanguageModelConfig, SentimentConfig
from unroll.data.data_report import DataReport, Finding
from unroll.evaluation.card import NOT_READABLE, CardFacts, render_card, shorten_card
from unroll.evaluation.decisions import Decision
from unroll.evaluation.intervals import Interval
from unroll.evaluation.report import EvaluationReport, Rival
from unroll.evaluation.slices import Slice

TRAINING: dict[str, Any] = {
    **{"seconds": 90.0, "steps": 1_200, "best_step": 900, "epochs": 1, "parameters": 13_474, "rollbacks": 0},
    **{"tokens_per_second": 9_876.5, "precision": "float32", "clipped_fraction": 0.25, "device": "cpu (2 cores)"},
}
EVALUATION = EvaluationReport(
    project="sentiment",
    metrics={"test/accuracy": Interval(0.8, 0.78, 0.82)},
    rival=Rival("a bag | of words", {"test/accuracy": Interval(0.85, 0.83, 0.87)}),
    test_digest="d" * 64,
    num_items=600,
    confidence=0.95,
)
FACTS = CardFacts(
    name="unroll-sentiment",
    version="7",
    run_id="a-run",
    config=SentimentConfig(),
    data_digest="c" * 64,
    data_report=DataReport((Finding("twice", "warning", 3, "texts that stand there twice"),), {}),
    splits={name: {"items": 600, "tokens": 27_165, "unk_fraction": 0.031} for name in ("train", "validation", "test")},
    training=TRAINING,
    energy=None,
    evaluation=EVALUATION,
    slices=(
        Slice("class", "negative", 300, Interval(0.9, 0.86, 0.93)),
        Slice("class", "positive", 300, Interval(0.7, 0.65, 0.75)),
        Slice("unknown words", "over 5% of them", 3, Interval(0.0, 0.0, 0.6)),
    ),
    decision=Decision(
        "held", "not shown to be better", {"champion": {"p_value": 0.30001, "passed": False, "sentence": "no"}}
    ),
    code={"version.torch": "2.13"},
)


def test_a_card_has_every_part_and_every_figure_with_its_interval() -> None:
    card = render_card(FACTS)
    parts = ("Decision", "Intended use", "Metrics", "Slices", "Limits", "Training data", "Evaluation data", "Training")
    for part in (*parts, "Cost", "Made with"):
        assert f"\n## {part}\n" in card
    assert card.startswith("# unroll-sentiment, version 7\n")
    assert "| accuracy | 0.8000 (0.7800 to 0.8200) | 0.8500 (0.8300 to 0.8700) |" in card
    assert "rival: a bag \\| of words" in card
    assert "| p value | 0.3 |" in card
    assert "| passed | no |" in card
    assert "13,474 parameters. **held**" in card
    assert "wall time | 1.50 minutes" in card


def test_limits_are_those_that_were_measured() -> None:
    card = render_card(FACTS)
    assert "The cheap rival does better: 0.8500 against 0.8000" in card
    assert "Worst slice: class, positive" in card, "a slice of three items tells nothing"
    assert "3.10% of the test tokens are not in its vocabulary" in card
    assert "3 texts that stand there twice" in card
    better = replace(EVALUATION, rival=Rival("another", {"test/accuracy": Interval(0.5, 0.4, 0.6)}))
    assert "cheap rival does better" not in render_card(replace(FACTS, evaluation=better))


def test_for_bits_less_is_better() -> None:
    metrics = {"test/bits_per_char": Interval(1.7, 1.6, 1.8)}
    rival = Rival("n-grams", {"test/bits_per_char": Interval(1.9, 1.8, 2.0)})
    evaluation = replace(EVALUATION, project="language_model", metrics=metrics, rival=rival)
    card = render_card(replace(FACTS, config=LanguageModelConfig(), evaluation=evaluation))
    assert "cheap rival does better" not in card
    assert "Worst slice: class, negative: 0.9000" in card


@pytest.mark.parametrize(
    ("energy", "processor", "gpu"),
    [
        (None, NOT_READABLE, NOT_READABLE),
        ({"processor_joules": None, "gpu_joules": None, "seconds": 90.0}, NOT_READABLE, NOT_READABLE),
        ({"processor_joules": 7_200.0, "gpu_joules": None, "seconds": 90.0}, "2 Wh over 1.50 minutes", NOT_READABLE),
    ],
)
def test_energy_is_what_was_read_or_said_not_to_be(energy: Any, processor: str, gpu: str) -> None:
    card = render_card(replace(FACTS, energy=energy))
    assert f"| energy, processor | {processor}" in card
    assert f"| energy, GPU | {gpu}" in card


@pytest.mark.parametrize("length", [300, 900, 2_000, 100_000])
def test_a_card_too_long_for_its_place_keeps_whole_sections_and_says_where_the_rest_is(length: int) -> None:
    card = render_card(FACTS)
    short = shorten_card(card, length, "artifact card.md")
    assert len(short) <= max(length, len(card) if length > len(card) else length)
    if length >= len(card):
        assert short == card
    else:
        assert short.endswith("(The whole card: artifact card.md.)\n")
        kept = short.rpartition("\n\n(")[0]
        assert card.startswith(kept)
