from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from unroll.data.sample import make_prose
from unroll.data.sample_prose import next_character_probabilities
from unroll.data.sample_reviews import VERDICTS
from unroll.errors import StoreError
from unroll.evaluation import behaviour_reviews, behaviour_text
from unroll.evaluation.behaviour import (
    FILE_NAME,
    BehaviourResult,
    behaviour_table,
    count_failures,
    load_behaviour,
    save_behaviour,
)
from unroll.scoring import score_continuations, score_text


def counted(failed: list[bool]) -> BehaviourResult:
    cases = [f"case {number}" for number in range(len(failed))]
    return count_failures("name", "invariance", "a promise", failed, cases, 0.95)


def by_name(results: Sequence[BehaviourResult]) -> dict[str, BehaviourResult]:
    assert len({result.name for result in results}) == len(results)
    return {result.name: result for result in results}


def bag_of_words(texts: Sequence[str]) -> np.ndarray:
    """Counts verdicts, whatever their order: (N, 2)."""
    negative, positive = (set(words) for words in VERDICTS)
    words = [re.findall(r"\w+", text) for text in texts]
    score = np.array([sum((word in positive) - (word in negative) for word in of_text) for of_text in words])
    probability = 1 / (1 + np.exp(-score - 0.1))
    return np.stack([1 - probability, probability], axis=1)


def test_a_failure_rate_has_its_exact_interval_and_shows_some_failures() -> None:
    result = counted([False] * 96 + [True] * 4)
    assert (result.num_cases, result.num_failures) == (100, 4)
    assert result.failure_rate.value == 0.04
    assert (result.failure_rate.low, result.failure_rate.high) == pytest.approx((0.011, 0.0993), abs=1e-3)
    assert result.examples == ("case 96", "case 97", "case 98")
    perfect = counted([False] * 100).failure_rate
    assert perfect.value == perfect.low == 0
    assert perfect.high == pytest.approx(1 - 0.025 ** (1 / 100))


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = [counted([True, False]), counted([False])]
    save_behaviour(results, tmp_path)
    assert load_behaviour(tmp_path) == results
    assert len(behaviour_table(results)) == 4
    (tmp_path / FILE_NAME).write_text("[]")
    with pytest.raises(StoreError, match="--from evaluate"):
        load_behaviour(tmp_path)


def test_a_bag_of_words_passes_where_counting_is_enough_and_fails_where_order_decides() -> None:
    results = by_name(behaviour_reviews.test_reviews(bag_of_words, True, 1, 0.95))
    for name in ("plain_verdict", "filler", "names", "typography"):
        assert results[name].num_failures == 0, results[name]
    for name in ("order", "denial"):
        assert results[name].failure_rate.value == 1.0


def test_a_coin_fails_half_of_the_plain_english_verdicts() -> None:
    generator = np.random.default_rng(0)

    def guess(texts: Sequence[str]) -> np.ndarray:
        positive = generator.random(len(texts))
        return np.stack([1 - positive, positive], axis=1)

    results = by_name(behaviour_reviews.test_reviews(guess, False, 1, 0.95))
    assert {result.kind for result in results.values()} == {"invariance", "direction", "minimum_functionality"}
    for name in ("plain_verdict", "turn", "not"):
        assert results[name].failure_rate.low < 0.5 < results[name].failure_rate.high


def test_a_classifier_that_counts_english_verdicts_passes_but_for_not() -> None:
    praise, blame = set(behaviour_reviews.PRAISE), set(behaviour_reviews.BLAME)

    def count(texts: Sequence[str]) -> np.ndarray:
        words = [re.findall(r"\w+", text.lower()) for text in texts]
        score = np.array([sum((word in praise) - (word in blame) for word in of_text) for of_text in words])
        positive = 1 / (1 + np.exp(-score))
        return np.stack([1 - positive, positive], axis=1)

    results = by_name(behaviour_reviews.test_reviews(count, False, 3, 0.95))
    for name in ("plain_verdict", "intensifier", "last_word", "names", "typography"):
        assert results[name].num_failures == 0, results[name]
    assert results["not"].failure_rate.value == 1.0


@pytest.mark.parametrize("made", [True, False])
def test_the_cases_are_different_seeded_and_change_something(made: bool) -> None:
    seen: list[list[str]] = []

    def note(texts: Sequence[str]) -> np.ndarray:
        seen.append(list(texts))
        return np.full((len(texts), 2), 0.5)

    results = behaviour_reviews.test_reviews(note, made, 5, 0.95)
    first = [list(texts) for texts in seen]
    behaviour_reviews.test_reviews(note, made, 5, 0.95)
    assert seen[len(first) :] == first
    for result, before, after in zip(results, first[::2], first[1::2], strict=True):
        assert result.num_cases == len(before) > 50
        assert len(set(zip(before, after, strict=True))) == len(before)
        if result.kind != "minimum_functionality":
            assert all(one != other for one, other in zip(before, after, strict=True)), result.name
        assert not any("{" in text for text in before + after)


def exact_nats(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """What the grammar itself says, where the past is a story from its start; a dear constant elsewhere."""
    costs = []
    for past, future in pairs:
        cost = 0.0
        for place, character in enumerate(future):
            probability = next_character_probabilities(past + future[:place]).get(character, 0.0)
            cost -= np.log(max(probability, 1e-9))
            if probability == 0:
                break
        costs.append(cost)
    return np.array(costs)


def test_the_grammar_itself_never_fails_what_is_asked_of_a_model_of_it() -> None:
    generator = np.random.default_rng(0)
    for make in (behaviour_text._agreements, behaviour_text._pronouns):
        cases = make(generator)[:30]
        good, bad = exact_nats([case.good for case in cases]), exact_nats([case.bad for case in cases])
        assert (good < bad - 1).all()


def test_a_text_gives_cases_of_every_kind_and_a_uniform_model_no_advantage() -> None:
    text = make_prose(30_000, seed=4).text
    results = by_name(
        behaviour_text.test_text(
            lambda pairs: np.array([float(len(future)) for _, future in pairs]), text, True, 1, 0.95
        )
    )
    assert set(results) == {"capital", "name", "closing_mark", "line_break", "agreement", "pronoun"}
    assert results["capital"].num_failures == results["name"].num_failures == 0
    assert 0 < results["agreement"].num_failures < results["agreement"].num_cases


def test_the_cases_of_a_text_are_places_in_it() -> None:
    text = (
        ("x" * 120) + " said Ned. “We sailed on.” Then (so it is told) came\nthe storm, and Harding slept. " + "y" * 60
    )
    assert [case.good[1] for case in behaviour_text._capitals(text)] == []
    names = [case.good for case in behaviour_text._names(text)]
    assert [name for _, name in names] == ["Ned", "Harding"]
    assert all(past and text.find(past + name) >= 0 for past, name in names)
    marks = list(behaviour_text._marks(text))
    assert [case.good[1] for case in marks] == ["”", ")"]
    assert marks[0].good[0].endswith("“We sailed on.")
    assert marks[0].bad[0] == marks[0].good[0].replace("“", "")
    (line_break,) = behaviour_text._breaks(text)
    assert line_break.good[1].startswith("the storm")
    assert line_break.bad[0] == "\n"


def test_a_text_without_cases_has_no_results() -> None:
    assert behaviour_text.test_text(lambda pairs: np.zeros(len(pairs)), "no marks " * 50, False, 1, 0.95) == []


def test_the_cost_of_what_comes_after_is_that_of_scoring_the_whole(make_trainer, small_config, tmp_path: Path) -> None:
    model = make_trainer(small_config("language_model"), tmp_path).problem.model
    generator = np.random.default_rng(0)
    pairs = [
        (generator.integers(2, 20, past), generator.integers(2, 20, after)) for past, after in ((3, 2), (30, 9), (1, 1))
    ]
    device = torch.device("cpu")
    for (past, future), nats in zip(pairs, score_continuations(model, pairs, device, batch_size=2), strict=True):
        whole = score_text(model, np.concatenate([past, future]), np.empty(0, np.int64), device, "float32", 30)
        assert nats == pytest.approx(whole[len(past) :].sum(), rel=1e-5)
