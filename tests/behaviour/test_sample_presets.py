"""What the embedded default promises: order matters, and the language model comes close to the exact code length."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.command import Command
from unroll.evaluation.behaviour import load_behaviour

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ORDER_PAIR = (
    "The critics found the whole thing dull and said so. I found the whole thing moving and said so.",
    "The critics found the whole thing moving and said so. I found the whole thing dull and said so.",
)


@pytest.fixture(scope="module")
def summaries(shared_command: Command) -> dict[str, dict[str, Any]]:
    path = shared_command.folder / "summary.json"
    done = shared_command("run", "all", "--summary", str(path), timeout=800)
    assert done.returncode == 0, done.stderr
    return {summary["project"]: summary for summary in json.loads(path.read_text(encoding="utf-8"))}


def test_the_lstm_reads_word_order_and_the_bag_of_words_cannot(summaries: dict[str, dict[str, Any]]) -> None:
    sentiment = summaries["sentiment"]
    assert sentiment["metrics"]["test/accuracy"]["low"] > 0.95
    assert sentiment["rival"]["test/accuracy"]["value"] < 0.75


def test_the_language_model_is_within_ten_percent_of_the_exact_code_length(
    summaries: dict[str, dict[str, Any]],
) -> None:
    metrics = summaries["language_model"]["metrics"]
    assert metrics["test/bits_per_char"]["value"] < 1.10 * metrics["test/floor_bits_per_char"]["value"]


def test_no_model_beats_the_exact_code_length(summaries: dict[str, dict[str, Any]]) -> None:
    # the excess is resampled pairwise, so its interval holds the sampling error of both
    assert summaries["language_model"]["metrics"]["test/excess_over_floor"]["high"] > 0


def test_the_neural_model_beats_its_rival(summaries: dict[str, dict[str, Any]]) -> None:
    for project, metric, sign in (("sentiment", "test/accuracy", 1), ("language_model", "test/bits_per_char", -1)):
        ours, rival = (summaries[project][part][metric]["value"] for part in ("metrics", "rival"))
        assert sign * ours > sign * rival, project


def test_the_same_words_in_another_order_have_the_opposite_label(
    summaries: dict[str, dict[str, Any]], shared_command: Command
) -> None:
    done = shared_command("predict", *ORDER_PAIR)
    assert done.returncode == 0, done.stderr
    labels = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert labels == ["positive", "negative"]


def test_the_presets_pass_their_behaviour_tests_but_for_what_they_have_not_learnt(
    summaries: dict[str, dict[str, Any]], shared_command: Command
) -> None:
    # measured with one seed: 11 % of the denials; a quarter of what a model that ignores the cue would fail, or less
    most_failures = {
        "sentiment": {"plain_verdict": 0.02, "order": 0.05, "denial": 0.3, "filler": 0.05, "names": 0.05},
        "language_model": {"capital": 0.02, "name": 0.02, "line_break": 0.05, "agreement": 0.25},
    }
    for project, bounds in most_failures.items():
        (path,) = shared_command.home.glob(f"store/{project}/evaluate/*/behaviour.json")
        tests = {result.name: result.failure_rate.value for result in load_behaviour(path.parent)}
        assert {name: tests[name] for name, bound in bounds.items() if tests[name] > bound} == {}, project
