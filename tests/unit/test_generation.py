"""Sampling is reproducible, keeps what its settings say, and makes nothing but characters."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.config import CharModelConfig
from unroll.data.encoders import CharEncoder
from unroll.data.vocabulary import Vocabulary
from unroll.errors import PredictionError
from unroll.generation import MOST_TOGETHER, Noise, SamplingSettings, TextGenerator, draw, keep_likely
from unroll.models.language_model import CharLanguageModel

LETTERS = "abcdefgh \n"
logits_lists = st.lists(st.floats(-20, 20), min_size=3, max_size=40).map(np.array)


@pytest.fixture(scope="module")
def generator() -> TextGenerator:
    torch.manual_seed(0)
    vocabulary = Vocabulary(("<pad>", "<unk>", *LETTERS))
    model = CharLanguageModel(CharModelConfig(embedding_dim=8, hidden_size=16, dropout=0.5), len(vocabulary))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
        model.output.bias[:2] = 50.0  # a model that would love to make <pad> and <unk>
    return TextGenerator(model, CharEncoder(vocabulary), torch.device("cpu"))


def sampling(**values: Any) -> SamplingSettings:
    return SamplingSettings(**{"length": 40, **values})


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).gumbel(size=shape)


def test_the_same_seed_makes_the_same_text_and_another_does_not(generator: TextGenerator) -> None:
    one = generator.generate(["ab"], sampling(seed=5))
    assert generator.generate(["ab"], sampling(seed=5)) == one
    assert generator.generate(["ab"], sampling(seed=6)) != one


def test_a_text_does_not_depend_on_those_made_beside_it(generator: TextGenerator) -> None:
    alone = generator.generate(["ab"], sampling())[0]
    together = generator.generate(["ab", "gh gh", "c"], sampling())
    assert together[0] == alone
    assert generator.generate(["d", "gh gh"], sampling())[1] == together[1]


def test_in_bfloat16_a_text_does_not_depend_on_those_made_beside_it_either(generator: TextGenerator) -> None:
    rounded = TextGenerator(generator.model, generator.encoder, generator.device, "bfloat16")
    together = rounded.generate(["ab", "gh gh", "c"], sampling())
    assert together[0] == rounded.generate(["ab"], sampling())[0]
    assert together[0] == "ab" + "".join(rounded.stream("ab", sampling()))


def test_samples_of_one_prompt_differ(generator: TextGenerator) -> None:
    assert len(set(generator.generate(["ab"] * 4, sampling()))) == 4


def test_a_shorter_text_is_the_beginning_of_a_longer_one(generator: TextGenerator) -> None:
    longer = generator.generate(["ab"], sampling(length=30))[0]
    assert longer.startswith(generator.generate(["ab"], sampling(length=11))[0])


def test_the_length_counts_what_is_made(generator: TextGenerator) -> None:
    assert len(generator.generate(["abc"], sampling(length=17))[0]) == 3 + 17
    assert generator.generate(["abc"], sampling(length=0)) == ["abc"]


def test_top_k_of_one_and_temperature_zero_are_greedy(generator: TextGenerator) -> None:
    model, text = generator.model.eval(), "ab"
    for _ in range(25):
        with torch.no_grad():
            logits = model(torch.tensor([generator.encoder.encode(text)]))[0][0, -1, 2:]
        text += LETTERS[int(logits.argmax())]
    for values in ({"top_k": 1}, {"temperature": 0}, {"top_p": 1e-9}, {"min_p": 1.0}, {"temperature": 1e-300}):
        assert generator.generate(["ab"], sampling(length=25, **values)) == [text]


def test_streaming_makes_the_same_text_one_character_at_a_time(generator: TextGenerator) -> None:
    pieces = list(generator.stream("ab", sampling()))
    assert all(len(piece) == 1 for piece in pieces)
    assert "ab" + "".join(pieces) == generator.generate(["ab"], sampling())[0]


def test_a_text_ends_after_the_first_stop_string(generator: TextGenerator) -> None:
    free = "".join(generator.stream("ab", sampling(length=200)))
    stop = free[50:53]
    made = "".join(generator.stream("ab", sampling(length=200, stop=("never!", stop))))
    assert made == free[: free.index(stop) + 3]


def test_a_stop_string_in_the_prompt_does_not_count(generator: TextGenerator) -> None:
    free = "".join(generator.stream("abc", sampling(length=1)))
    assert "".join(generator.stream("abc", sampling(length=1, stop=("c" + free,)))) == free
    assert len(list(generator.stream("abc", sampling(length=30, stop=("",))))) == 30


@settings(max_examples=25)
@given(temperature=st.floats(0, 100), seed=st.integers(0, 2**63 - 1), sample=st.integers(0, 100))
def test_neither_padding_nor_the_unknown_is_ever_made(
    generator: TextGenerator, temperature: float, seed: int, sample: int
) -> None:
    made = list(generator.stream("ab", sampling(length=15, temperature=temperature, seed=seed), sample))
    assert set(made) <= set(LETTERS)


@settings(max_examples=40)
@given(prompt=st.text(st.characters(), max_size=20))
def test_any_prompt_can_be_gone_on_from(generator: TextGenerator, prompt: str) -> None:
    text = generator.generate([prompt], sampling(length=3))[0]
    assert text.startswith(prompt)
    assert len(text) == len(prompt) + 3


def test_unknown_characters_of_a_prompt_are_told(generator: TextGenerator, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        generator.generate(["aéa"], sampling(length=1))
    assert "never saw 'é'" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        generator.generate(["ab", ""], sampling(length=1))
    assert caplog.text == ""


@given(logits=logits_lists, top_k=st.integers(1, 50))
def test_top_k_keeps_the_k_likeliest(logits: np.ndarray, top_k: int) -> None:
    kept = np.isfinite(keep_likely(logits, sampling(top_k=top_k)))
    assert kept.sum() == min(top_k, len(logits))
    if not kept.all():
        assert logits[kept].min() >= logits[~kept].max()


@given(logits=logits_lists, top_p=st.floats(0.01, 0.99))
def test_top_p_keeps_the_fewest_that_reach_p(logits: np.ndarray, top_p: float) -> None:
    probs = np.exp(logits - logits.max())
    probs /= probs.sum()
    kept = np.isfinite(keep_likely(logits, sampling(top_p=top_p)))
    assert probs[kept].sum() >= top_p - 1e-9
    assert probs[kept].sum() - probs[kept].min() < top_p + 1e-9
    if not kept.all():
        assert logits[kept].min() >= logits[~kept].max()


@given(logits=logits_lists, min_p=st.floats(0, 1))
def test_min_p_keeps_those_near_the_likeliest(logits: np.ndarray, min_p: float) -> None:
    kept = np.isfinite(keep_likely(logits, sampling(min_p=min_p)))
    shares = np.exp(logits - logits.max())
    clear = np.abs(shares - min_p) > 1e-9
    assert (kept == (shares >= min_p))[clear].all()
    assert kept[logits.argmax()]


@given(rows=st.integers(1, 5), columns=st.integers(3, 12), seed=st.integers(0, 99), values=st.data())
def test_rows_are_drawn_each_for_itself(rows: int, columns: int, seed: int, values: st.DataObject) -> None:
    options = {
        "top_k": values.draw(st.integers(0, 12)),
        "top_p": values.draw(st.floats(0.05, 1)),
        "min_p": values.draw(st.floats(0, 1)),
        "temperature": values.draw(st.floats(0, 3)),
    }
    logits = np.random.default_rng(seed).normal(scale=3, size=(rows, columns))
    together = draw(logits, sampling(**options), noise(rows, columns))
    alone = [draw(logits[[row]], sampling(**options), noise(rows, columns)[[row]])[0] for row in range(rows)]
    assert together.tolist() == alone


def test_noise_drawn_in_blocks_is_the_noise_drawn_step_by_step() -> None:
    blocks = Noise(seed=7, samples=[0, 5], vocab_size=9)
    one_by_one = [np.random.Generator(np.random.Philox(key=[7, sample])) for sample in (0, 5)]
    for step in range(2 * Noise.BLOCK + 3):
        expected = np.stack([generator.gumbel(size=9) for generator in one_by_one])
        assert np.array_equal(blocks.at(step, [0, 1]), expected)
        assert np.array_equal(blocks.at(step, [1]), expected[[1]])


def test_texts_that_end_early_leave_the_others_as_they_are(generator: TextGenerator) -> None:
    prompts = ["ab", "gh gh", "c", "ab"]
    free = [text[len(prompt) :] for prompt, text in zip(prompts, generator.generate(prompts, sampling()), strict=True)]
    stop = free[1][7:9]
    made = generator.generate(prompts, sampling(stop=(stop,)))
    for prompt, text, whole in zip(prompts, made, free, strict=True):
        end = whole.find(stop)
        assert text == prompt + (whole if end < 0 else whole[: end + len(stop)])
    assert len(made[1]) < len(prompts[1]) + len(free[1])


def test_more_texts_than_are_made_at_a_time(generator: TextGenerator) -> None:
    many = generator.generate(["ab"] * (MOST_TOGETHER + 3), sampling(length=5))
    assert many[:3] == generator.generate(["ab"] * 3, sampling(length=5))
    assert len(set(many)) > MOST_TOGETHER // 2
    assert generator.generate([], sampling()) == []


@given(logits=logits_lists)
def test_the_defaults_keep_everything_as_it_is(logits: np.ndarray) -> None:
    assert np.array_equal(keep_likely(logits, sampling()), logits)


def test_draws_follow_the_probabilities() -> None:
    logits = np.tile([9.0, 9.0, 0.0, np.log(3.0)], (4_000, 1))
    counts = np.bincount(draw(logits, sampling(), noise(4_000, 4)), minlength=4)
    assert counts[:2].tolist() == [0, 0]
    assert counts[3] / 4_000 == pytest.approx(0.75, abs=0.03)
    hot = np.bincount(draw(logits, sampling(temperature=1e5), noise(4_000, 4)), minlength=4)
    assert hot[3] / 4_000 == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("bad", [[0.0, 0.0, np.nan], [1.0, 1.0], [0.0, 0.0, -np.inf], [0.0, 0.0, np.inf]])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_damaged_model_is_told_rather_than_sampled(bad: list[float], temperature: float) -> None:
    with pytest.raises(PredictionError, match="no character a finite score"):
        draw(np.array([[0.0] * len(bad), bad]), sampling(temperature=temperature), noise(2, len(bad)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("length", -1),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_p", 0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("seed", -1),
    ],
)
def test_settings_out_of_bounds_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(PredictionError, match=f"{name} is .*; expected"):
        sampling(**{name: value})
