"""Sampling text from a character language model (chapter 15, project two).

Noise is drawn for each sample from a counter-based generator keyed by (seed, sample), so a sample depends neither on
how many others are made beside it nor on their lengths (but for rounding: a product of many rows may round its sums in
another order than a product of one, which can tip a draw between two characters that are as good as equal).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unroll.data.encoders import TextEncoder
from unroll.data.vocabulary import Vocabulary
from unroll.errors import PredictionError
from unroll.models.language_model import CharLanguageModel
from unroll.models.saved import load_model
from unroll.models.stepping import State, SteppingModel
from unroll.precision import generation_precision
from unroll.threads import map_on_threads, num_threads, one_blas_thread

logger = logging.getLogger(__name__)

Array = NDArray[np.floating[Any]]
FloatArray = NDArray[np.float64]

MOST_TOGETHER = 64
"""Texts made at a time."""
LEAST_OF_A_THREAD = 2
"""Texts for which a thread of their own is worth it."""


@dataclass(frozen=True)
class SamplingSettings:
    """How the next character is drawn. Raises PredictionError for a value out of bounds."""

    length: int = 500
    """Most characters to make after the prompt."""
    temperature: float = 1.0
    """Divides the logits: below 1 more predictable, above 1 more random, 0 always the likeliest. The chapter's
    scale factor is its inverse."""
    top_k: int = 0
    """Keep only this many of the likeliest characters; 0 keeps all."""
    top_p: float = 1.0
    """Keep the likeliest characters that together reach this probability (nucleus sampling, Holtzman 2020)."""
    min_p: float = 0.0
    """Drop characters less likely than this share of the likeliest one."""
    seed: int = 1
    """Same seed, same text."""
    stop: tuple[str, ...] = ()
    """End after the first of these strings has been made; it stays in the text."""

    def __post_init__(self) -> None:
        checks = (
            ("length", self.length >= 0, "0 or more"),
            ("temperature", 0 <= self.temperature < 1e6, "0 or more"),
            ("top_k", self.top_k >= 0, "0 (off) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0, at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("seed", 0 <= self.seed < 2**63, "0 or more"),
        )
        for name, fits, expected in checks:
            if not fits:
                raise PredictionError(f"{name} is {getattr(self, name)}; expected {expected}.")


class TextGenerator:
    """A trained model and its characters, ready to go on from a prompt."""

    def __init__(
        self, model: CharLanguageModel, encoder: TextEncoder, device: torch.device, precision: str = "float32"
    ) -> None:
        """The model is moved to the device.

        precision: of the layers' products, as `unroll.precision.generation_precision` takes it; it asks which are
        faster for so many texts, so with "auto" one text alone and the same among many are made by other roundings.
        """
        self.model = model.to(device)
        self.encoder = encoder
        self.device = device
        self.precision = precision
        self._stepping_models: dict[str, SteppingModel] = {}

    @classmethod
    def load(cls, folder: Path, device: torch.device, precision: str = "float32") -> TextGenerator:
        """Read a model folder. Raises PredictionError where the model is no language model."""
        saved = load_model(folder, device)
        if not isinstance(saved.model, CharLanguageModel):
            raise PredictionError(
                f"The model is of the project {saved.config.project}; generating needs a language model."
            )
        return cls(saved.model, saved.encoder, device, precision)

    def generate(self, prompts: list[str], settings: SamplingSettings) -> list[str]:
        """Go on from each prompt; returns the prompts with what follows them. Sample i uses the i-th noise stream.

        Up to MOST_TOGETHER texts are made at a time: a step of many costs little more than a step of one. On a CPU they
        are shared out among threads, which never wait for each other: texts have nothing to do with one another.
        """
        made: list[str] = []
        for start in range(0, len(prompts), MOST_TOGETHER):
            samples = range(start, min(start + MOST_TOGETHER, len(prompts)))
            token_ids = self._prompt_ids([prompts[sample] for sample in samples])
            stepping_model = self._stepping_model(len(prompts))
            with one_blas_thread():
                for texts in map_on_threads(
                    lambda part: self._generate(stepping_model, token_ids[part], settings, samples[part]),  # noqa: B023
                    self._parts(len(samples)),
                ):
                    made += texts
        return [prompt + text for prompt, text in zip(prompts, made, strict=True)]

    def stream(self, prompt: str, settings: SamplingSettings, sample: int = 0) -> Iterator[str]:
        """Characters as they are made, one at a time.

        Characters of the prompt that the model never saw are read as `<unk>`, with a warning; neither `<unk>` nor
        `<pad>` is ever made.
        """
        steps = self._make(self._stepping_model(1), self._prompt_ids([prompt]), settings, [sample])
        while True:
            with one_blas_thread():  # not while the reader of the stream is at work
                made = next(steps, None)
            if made is None:
                return
            yield self.encoder.vocabulary.tokens[made[1][0]]

    def _parts(self, num_texts: int) -> list[slice]:
        """Which texts each thread makes."""
        threads = num_threads() if self.device.type == "cpu" else 1
        edges = np.linspace(0, num_texts, max(1, min(threads, num_texts // LEAST_OF_A_THREAD)) + 1).astype(int)
        return [slice(start, stop) for start, stop in pairwise(edges.tolist())]

    def _generate(
        self,
        stepping_model: SteppingModel,
        prompts: Sequence[torch.Tensor],
        settings: SamplingSettings,
        samples: Sequence[int],
    ) -> list[str]:
        """What follows each prompt."""
        tokens = self.encoder.vocabulary.tokens
        texts: list[list[str]] = [[] for _ in prompts]
        for rows, token_ids in self._make(stepping_model, prompts, settings, samples):
            for row, token_id in zip(rows, token_ids.tolist(), strict=True):
                texts[row].append(tokens[token_id])
        return ["".join(text) for text in texts]

    def read(self, prompts: Sequence[str]) -> tuple[Array, State]:
        """Logits (B, V) of what follows each prompt, and the state after it, for callers that step by themselves."""
        return self._read(self._prompt_ids(prompts))

    def _make(
        self,
        stepping_model: SteppingModel,
        prompts: Sequence[torch.Tensor],
        settings: SamplingSettings,
        samples: Sequence[int],
    ) -> Iterator[tuple[list[int], NDArray[np.int64]]]:
        """Step by step, the places in ``prompts`` of the texts that have not ended, and the next character of each."""
        logger.debug("generating %d characters for %d prompts", settings.length, len(prompts))
        noise = Noise(settings.seed, samples, len(self.encoder.vocabulary))
        logits, state = self._read(prompts)
        stepper = stepping_model.begin(state)
        ends = _Ends(settings.stop, self.encoder.vocabulary, len(prompts))
        rows = list(range(len(prompts)))
        for step in range(settings.length):
            token_ids = draw(logits, settings, noise.at(step, rows))
            yield rows, token_ids
            if settings.stop:
                going = ends.places_going(rows, token_ids)
                if not going:
                    return
                if len(going) < len(rows):
                    rows, token_ids = [rows[place] for place in going], token_ids[going]
                    stepper.keep(going)
            if step + 1 < settings.length:
                logits = stepper.step(token_ids)

    def _stepping_model(self, num_texts: int) -> SteppingModel:
        precision = generation_precision(self.precision, self.model, self.device, num_texts)
        if precision not in self._stepping_models:
            self._stepping_models[precision] = SteppingModel(self.model, precision)
        return self._stepping_models[precision]

    @torch.inference_mode()
    def _read(self, prompts: Sequence[torch.Tensor]) -> tuple[Array, State]:
        """Logits (B, V) and state after each prompt (1, T); a prompt that is there several times is read once."""
        self.model.eval()
        read = {id(prompt): self.model(prompt) for prompt in prompts}
        logits = torch.cat([read[id(prompt)][0][:, -1] for prompt in prompts])
        layers = zip(*(read[id(prompt)][1] for prompt in prompts), strict=True)
        state = tuple(tuple(torch.cat(parts, dim=1) for parts in zip(*layer, strict=True)) for layer in layers)
        return logits.double().cpu().numpy(), state

    def _prompt_ids(self, prompts: Sequence[str]) -> list[torch.Tensor]:
        """(1, T) of each prompt; like prompts share a tensor."""
        ids = {prompt: self._ids_of_prompt(prompt) for prompt in dict.fromkeys(prompts)}
        return [ids[prompt] for prompt in prompts]

    def _ids_of_prompt(self, prompt: str) -> torch.Tensor:
        # a model needs something to read: an empty prompt stands at the start of a line
        token_ids = self.encoder.encode(prompt or "\n")
        unknown = sorted({character for character in prompt if self.encoder.encode(character)[0] == Vocabulary.UNK_ID})
        if unknown:
            shown = " ".join(repr(character) for character in unknown[:10])
            logger.warning("the model never saw %s; read as an unknown character", shown)
        return torch.tensor([list(token_ids)], dtype=torch.int64, device=self.device)


class Noise:
    """Gumbel noise of several samples, from a counter-based generator each, keyed by (seed, sample)."""

    BLOCK = 64
    """Steps drawn at a time."""

    def __init__(self, seed: int, samples: Sequence[int], vocab_size: int) -> None:
        """Nothing is drawn yet."""
        self._generators = [np.random.Generator(np.random.Philox(key=[seed, sample])) for sample in samples]
        self._vocab_size = vocab_size
        self._block = np.empty((0, 0, 0))  # (BLOCK, samples, V)
        self._block_number = -1

    def at(self, step: int, rows: Sequence[int]) -> FloatArray:
        """The noise of a step, (len(rows), V). A later step is never asked for before an earlier one."""
        number, place = divmod(step, self.BLOCK)
        while self._block_number < number:
            shape = (self.BLOCK, self._vocab_size)
            self._block = np.stack([generator.gumbel(size=shape) for generator in self._generators], axis=1)
            self._block_number += 1
        noise: FloatArray = self._block[place]
        return noise if len(rows) == len(noise) else noise[rows]


def draw(logits: Array, settings: SamplingSettings, gumbel: FloatArray) -> NDArray[np.int64]:
    """Draw an id from each row of logits after temperature, top-k, top-p and min-p, by the Gumbel-max trick.

    logits: (B, V); gumbel: (B, V), standard Gumbel noise. Returns (B,).
    Raises PredictionError where there is nothing to draw: logits that are not numbers, or no character in them.
    """
    scores = logits.astype(np.float64)
    scores[:, Vocabulary.PAD_ID] = scores[:, Vocabulary.UNK_ID] = -np.inf
    highest = scores.max(axis=1, keepdims=True)
    if not np.isfinite(highest).all():
        raise PredictionError("The model gives no character a finite score; it is damaged: train it again.")
    if settings.temperature == 0:
        return np.asarray(scores.argmax(axis=1))
    np.subtract(scores, highest, out=scores)
    if settings.temperature != 1:
        with np.errstate(over="ignore"):  # a temperature near 0 sends all but the likeliest to minus infinity
            np.divide(scores, settings.temperature, out=scores)
    return np.asarray((keep_likely(scores, settings) + gumbel).argmax(axis=1))


def keep_likely(logits: FloatArray, settings: SamplingSettings) -> FloatArray:
    """Logits (…, V) with those that top-k, top-p and min-p leave out at minus infinity. The likeliest always stays."""
    if not settings.top_k and settings.top_p == 1.0 and settings.min_p == 0.0:
        return logits
    order = np.argsort(-logits, axis=-1, kind="stable")
    ranked = np.take_along_axis(logits, order, axis=-1)
    probs = np.exp(ranked - ranked[..., :1])
    probs /= probs.sum(axis=-1, keepdims=True)
    kept = probs >= settings.min_p * probs[..., :1]
    if settings.top_k:
        kept[..., settings.top_k :] = False
    if settings.top_p < 1.0:  # sums of rounded numbers may reach 1 before the last one
        before = np.zeros_like(probs)
        before[..., 1:] = np.cumsum(probs[..., :-1], axis=-1)
        kept &= before < settings.top_p
    kept[..., 0] = True
    result = np.full_like(logits, -np.inf)
    np.put_along_axis(result, order, np.where(kept, ranked, -np.inf), axis=-1)
    return result


class _Ends:
    """Which texts have made a stop string."""

    def __init__(self, stops: Sequence[str], vocabulary: Vocabulary, num_texts: int) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max((len(stop) for stop in self._stops), default=0)
        self._tokens = vocabulary.tokens
        self._tails = [""] * num_texts

    def places_going(self, rows: Sequence[int], token_ids: NDArray[np.int64]) -> list[int]:
        """Places in ``rows`` of the texts that go on after their next characters."""
        if not self._longest:
            return list(range(len(rows)))
        for row, token_id in zip(rows, token_ids.tolist(), strict=True):
            self._tails[row] = (self._tails[row] + self._tokens[token_id])[-self._longest :]
        return [place for place, row in enumerate(rows) if not self._tails[row].endswith(self._stops)]
