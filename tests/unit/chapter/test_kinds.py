"""The kinds of sequence task: labels are what they claim, and the one training loop learns each of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unroll.chapter.kinds import one_to_many, tagging
from unroll.chapter.kinds.encoder_decoder import EncoderDecoder, Reversal
from unroll.chapter.kinds.many_to_one import OTHERS, ManyToOne
from unroll.chapter.kinds.one_to_many import OneToMany, caption
from unroll.chapter.kinds.tagging import Tagging
from unroll.chapter.sequence_tasks import SEQUENCE_TASKS, STEPS_PER_LOOK, SequenceTask, learn
from unroll.chapter.synthetic import SequenceBatch, SyntheticProblem


def drawn(problem: type[SyntheticProblem], count: int = 200) -> SequenceBatch:
    return problem(1, 8, 4).draw(np.random.default_rng(0), count)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("task", SEQUENCE_TASKS, ids=lambda task: task.kind)
def test_each_kind_is_learned_to_above_99_percent(task: SequenceTask, seed: int) -> None:
    learned = learn(task, seed)
    assert learned.accuracy > 0.99
    looks = [point["step"] for point in learned.history if "validation/accuracy" in point]
    assert looks == list(range(STEPS_PER_LOOK, task.steps + 1, STEPS_PER_LOOK))


def test_the_kinds_are_those_of_the_chapter() -> None:
    kinds = [task.kind for task in SEQUENCE_TASKS]
    assert kinds == ["many to one", "one to many", "many to many, in step", "many to many, delayed"]


def test_many_to_one_asks_for_the_order_of_two_letters() -> None:
    batch = drawn(ManyToOne)
    for letters, label in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        assert (letters.count(OTHERS), letters.count(OTHERS + 1)) == (1, 1)
        assert label == int(letters.index(OTHERS + 1) < letters.index(OTHERS))
        backwards = letters[::-1]  # the same bag of letters
        assert label != int(backwards.index(OTHERS + 1) < backwards.index(OTHERS))


def test_one_to_many_is_judged_on_pictures_never_shown() -> None:
    problem = OneToMany(1, 8, 4)
    shown = {tuple(row) for row in problem.draw(np.random.default_rng(0), 5_000).inputs.tolist()}
    hidden = {tuple(row) for row in problem.validation_items().inputs.tolist()}
    assert len(hidden) == int(np.prod(one_to_many.SIZES)) // 5
    assert not shown & hidden


@pytest.mark.parametrize("seed", [1, 2])
def test_every_picture_is_either_shown_or_kept_for_validation(seed: int) -> None:
    problem = OneToMany(seed, 500, 10)
    shown = {tuple(row) for batch in problem.batches(0, 0) for row in batch.inputs.tolist()}
    hidden = [tuple(row) for row in problem.validation_items().inputs.tolist()]
    assert len(hidden) == len(set(hidden))
    assert len(shown | set(hidden)) == len(shown) + len(hidden) == 3 * 4 * 4 * 5
    assert set(hidden) != {tuple(row) for row in OneToMany(seed + 1, 8, 4).validation_items().inputs.tolist()}


def test_captions_say_what_is_to_be_seen() -> None:
    assert caption(1, 0, 0, 1) == ["two", "red", "squares", "left", "."]
    assert caption(0, 3, 2, 0) == ["a", "grey", "star", ".", "."]
    batch = drawn(OneToMany)
    ends = np.cumsum(one_to_many.SIZES)[:-1].tolist()
    for features, words in zip(batch.inputs, batch.targets.tolist(), strict=True):
        picture = [int(part.argmax()) for part in torch.tensor_split(features, ends)]
        assert [one_to_many.WORDS[word] for word in words] == caption(*picture)


def test_tags_are_the_speaker_named_last() -> None:
    batch = drawn(Tagging)
    for tokens, tags in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        speaker, expected = 0, []
        for token in tokens:
            speaker = token - tagging.WORDS + 1 if token >= tagging.WORDS else speaker
            expected.append(speaker)
        assert tags == expected


def test_the_encoder_decoder_says_the_digits_backwards() -> None:
    batch = drawn(Reversal)
    assert torch.equal(batch.targets, batch.inputs.flip(1))


def test_told_what_it_would_have_said_the_decoder_says_it() -> None:
    torch.manual_seed(0)
    model = EncoderDecoder(hidden_size=8)
    digits = drawn(Reversal).inputs
    with torch.no_grad():
        free = model(digits)
        torch.testing.assert_close(model(digits, free.argmax(dim=-1)), free, rtol=0, atol=1e-5)


def test_the_decoder_is_told_what_came_before_and_never_what_comes() -> None:
    torch.manual_seed(0)
    model = EncoderDecoder(hidden_size=8)
    digits = drawn(Reversal).inputs
    length = digits.size(1)
    with torch.no_grad():
        for place in range(length):
            told = digits.clone()
            told[:, place] = (told[:, place] + 1) % 8
            changed = (model(digits, told) != model(digits, digits)).any(dim=-1).any(dim=0).tolist()
            assert changed == [step > place for step in range(length)]


def test_the_decoder_knows_all_of_the_input_before_its_first_digit() -> None:
    torch.manual_seed(0)
    model = EncoderDecoder(hidden_size=8)
    digits = drawn(Reversal).inputs
    with torch.no_grad():
        first = model(digits, digits)[:, 0]
        for place in range(digits.size(1)):
            other = digits.clone()
            other[:, place] = (other[:, place] + 1) % 8
            assert (model(other, digits)[:, 0] != first).any(dim=-1).all()


def test_in_step_a_tag_hangs_on_no_later_word() -> None:
    problem = Tagging(1, 8, 4)
    words = drawn(Tagging, 20).inputs
    with torch.no_grad():
        cut = words.clone()
        cut[:, 17:] = 0
        torch.testing.assert_close(problem.model(cut)[:, :17], problem.model(words)[:, :17])
