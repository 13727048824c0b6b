"""Characters sampled from the language model: the chapter's function against ours, one text and many at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.chapter.language_model import Draw, OneStepModel, sample
from benchmarks.corpora import book_config, book_corpus
from benchmarks.measure import WARM_UP, Bout, Contestant, timed
from benchmarks.plan import Plan, Row
from benchmarks.ratios import Promise
from benchmarks.same_losses import CPU, copy_weights
from benchmarks.timed_problem import time_training
from unroll.config import LanguageModelConfig
from unroll.data.encoded import EncodedCorpus
from unroll.data.vocabulary import Vocabulary
from unroll.generation import Noise, SamplingSettings, TextGenerator, draw
from unroll.models.language_model import CharLanguageModel
from unroll.models.stepping import SteppingModel
from unroll.precision import generation_precision
from unroll.training.language_model import LanguageModelProblem
from unroll.training.seed import seed_torch

LENGTH = 500
QUICK_LENGTH = 40
BATCH = 64
SAME_LENGTH = 200
"""Characters compared."""

TRAINED_STEPS, READ_TEXTS, READ_LENGTH = 150, 64, 200
"""For the precisions' price: so long a training, then so many held-out texts of so many characters read."""

PROMISES = (
    Promise("unroll, 1 text, over the chapter's way", "unroll, 1 text", "chapter", at_least=5),
    Promise("unroll, 1 text, over the chapter's way with graph", "unroll, 1 text", "chapter with graph"),
    Promise(f"unroll, {BATCH} texts, over the chapter's way", f"unroll, {BATCH} texts", "chapter", at_least=40),
    Promise(f"the same in float32, {BATCH} texts", f"unroll, {BATCH} texts, float32", "chapter"),
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
    generators = {name: TextGenerator(model, encoded.encoder, CPU, name) for name in ("float32", "auto")}
    generator = generators["float32"]
    characters, prompt = encoded.encoder.vocabulary.tokens, config.evaluation.sample_prompt
    length = QUICK_LENGTH if plan.quick else LENGTH

    def make(count: int, precision: str) -> Callable[[int], float]:
        return lambda amount: _generate(generators[precision], prompt, count, amount)

    def checks() -> dict[str, Any]:
        steps = 2 if plan.quick else TRAINED_STEPS
        return {
            "same_text": _same_text(chapter, generator, prompt, min(length, SAME_LENGTH), plan.seed),
            "bits_per_char_by_precision": _bits_per_char(config, encoded, steps),
        }

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
            _contestant("unroll, 1 text", "TextGenerator.generate, float32", make(1, "float32"), length),
            _contestant(
                f"unroll, {BATCH} texts",
                f"{BATCH} prompts together, precision auto: {generation_precision('auto', model, CPU, BATCH)} products",
                make(BATCH, "auto"),
                length,
            ),
            _contestant(
                f"unroll, {BATCH} texts, float32", f"the same, {BATCH} prompts together", make(BATCH, "float32"), length
            ),
        ),
        promises=PROMISES,
        rounds=plan.num_rounds(9),
        checks=checks,
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


def _bits_per_char(config: LanguageModelConfig, encoded: EncodedCorpus, steps: int) -> dict[str, Any]:
    """What a precision costs: a model trained for some steps reads held-out texts, one character of each a step."""
    seed_torch(config.seed)
    problem = LanguageModelProblem(config, encoded)
    time_training(problem, config.training.model_copy(update={"max_steps": steps, "epochs": 100_000}))
    model = problem.model.eval()
    held_out = np.asarray(encoded.split("validation").tokens)
    length = min(READ_LENGTH, len(held_out) // READ_TEXTS)
    texts = held_out[: READ_TEXTS * length].reshape(READ_TEXTS, length).astype(np.int64)
    with torch.no_grad():
        _, state = model(torch.from_numpy(texts[:, :1]))
    bits = {}
    for precision in ("float32", "bfloat16"):
        stepper = SteppingModel(model, precision).begin(state)
        loss = 0.0
        for place in range(1, length - 1):
            logits = torch.from_numpy(stepper.step(texts[:, place]))
            loss += float(cross_entropy(logits, torch.from_numpy(texts[:, place + 1])))
        bits[precision] = loss / (length - 2) / math.log(2)
    return {"steps": steps, "characters": READ_TEXTS * (length - 2), "bits_per_char": bits}


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
