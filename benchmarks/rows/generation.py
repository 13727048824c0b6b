"""Characters sampled from the language model: the chapter's function against ours, one text and many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.chapter.language_model import Draw, OneStepModel, sample
from benchmarks.corpora import book_config, book_corpus
from benchmarks.measure import WARM_UP, Bout, Contestant, timed
from benchmarks.plan import Plan, Row
from benchmarks.ratios import Promise
from benchmarks.same_losses import copy_weights
from unroll.config import LanguageModelConfig
from unroll.data.vocabulary import Vocabulary
from unroll.generation import Noise, SamplingSettings, TextGenerator, draw
from unroll.models.language_model import CharLanguageModel
from unroll.training.seed import seed_torch

LENGTH = 500
QUICK_LENGTH = 40
BATCH = 64
SAME_LENGTH = 200
"""Characters compared."""

PROMISES = (
    Promise("unroll, 1 text, over the chapter's way", "unroll, 1 text", "chapter", at_least=5),
    Promise("unroll, 1 text, over the chapter's way with graph", "unroll, 1 text", "chapter with graph"),
    Promise(f"unroll, {BATCH} texts, over the chapter's way", f"unroll, {BATCH} texts", "chapter", at_least=40),
)


def make_row(plan: Plan) -> Row:
    """The chapter's `sample`, with and without a graph, and ours for 1 and 64 texts."""
    corpus = book_corpus("language_model", plan)
    config = book_config("language_model", plan)
    assert isinstance(config, LanguageModelConfig)
    encoded = corpus.open_encoded()
    seed_torch(plan.seed)
    model = CharLanguageModel(config.model, encoded.vocab_size)
    chapter = OneStepModel(encoded.vocab_size, config.model.embedding_dim, config.model.hidden_size)
    copy_weights(model, chapter)
    generator = TextGenerator(model, encoded.encoder, torch.device("cpu"))
    characters, prompt = encoded.encoder.vocabulary.tokens, config.evaluation.sample_prompt
    length = QUICK_LENGTH if plan.quick else LENGTH

    def make(count: int) -> Callable[[int], float]:
        return lambda amount: _generate(generator, prompt, count, amount)

    def by_chapter(amount: int) -> float:
        with torch.no_grad():
            return _sample(chapter, prompt, characters, amount)

    return Row(
        unit="characters/s",
        data=f"an untrained model of the chapter's shape; {length} characters after {prompt!r}",
        contestants=(
            _contestant("chapter", "one call a character, torch's Categorical, under no_grad", by_chapter, length),
            _contestant(
                "chapter with graph",
                "the same where nobody switches gradients off",
                lambda amount: _sample(chapter, prompt, characters, amount),
                length,
            ),
            _contestant("unroll, 1 text", "TextGenerator.generate, float32", make(1), length),
            _contestant(f"unroll, {BATCH} texts", f"the same, {BATCH} prompts together", make(BATCH), length),
        ),
        promises=PROMISES,
        rounds=plan.num_rounds(9),
        checks=lambda: {"same_text": _same_text(chapter, generator, prompt, min(length, SAME_LENGTH), plan.seed)},
    )


def noise_draw(seed: int, vocab_size: int) -> Draw:
    """A draw for the chapter's function from the noise that ours draws from."""
    noise, settings = Noise(seed, [0], vocab_size), SamplingSettings(seed=seed)

    def from_noise(step: int, logits: Tensor) -> int:
        return int(draw(logits.detach().double().numpy()[None], settings, noise.at(step, [0]))[0])

    return from_noise


def _same_text(chapter: OneStepModel, generator: TextGenerator, prompt: str, length: int, seed: int) -> dict[str, Any]:
    """Whether both make the same text from the same weights, noise and precision."""
    characters = generator.encoder.vocabulary.tokens
    ours = generator.generate([prompt], SamplingSettings(length=length, seed=seed))[0]
    with torch.no_grad():
        theirs = sample(chapter, prompt, characters, length, draw=noise_draw(seed, len(characters)))
    return {"characters": length, "same": ours == theirs}


def _sample(model: OneStepModel, prompt: str, characters: Sequence[str], length: int) -> float:
    return len(sample(model, prompt, characters, length)) - len(prompt)


def _generate(generator: TextGenerator, prompt: str, count: int, length: int) -> float:
    assert length <= SamplingSettings().length  # no text ends early: there is no stop string
    made = generator.generate([prompt] * count, SamplingSettings(length=length))
    assert not any(token in text for text in made for token in (Vocabulary.PAD, Vocabulary.UNK))
    return sum(len(text) - len(prompt) for text in made)


def _contestant(name: str, what: str, work: Callable[[int], float], length: int) -> Contestant:
    def bout(number: int) -> Bout:
        return timed(lambda: work(10 if number == WARM_UP else length))

    return Contestant(name, what, bout)
