"""Sampling text from a character language model (chapter 15, project two).

Noise is drawn for each sample from a counter-based generator keyed by (seed, sample), so a sample depends neither on
how many others are made beside it nor on their lengths.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from unroll.data.encoders import TextEncoder
from unroll.data.vocabulary import Vocabulary
from unroll.errors import PredictionError
from unroll.models.language_model import CharLanguageModel
from unroll.models.saved import load_model

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]


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

    def __init__(self, model: CharLanguageModel, encoder: TextEncoder, device: torch.device) -> None:
        """The model is moved to the device."""
        self.model = model.to(device)
        self.encoder = encoder
        self.device = device

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> TextGenerator:
        """Read a model folder. Raises PredictionError where the model is no language model."""
        saved = load_model(folder, device)
        if not isinstance(saved.model, CharLanguageModel):
            raise PredictionError(
                f"The model is of the project {saved.config.project}; generating needs a language model."
            )
        return cls(saved.model, saved.encoder, device)

    def generate(self, prompts: list[str], settings: SamplingSettings) -> list[str]:
        """Go on from each prompt; returns the prompts with what follows them. Sample i uses the i-th noise stream."""
        return [prompt + "".join(self.stream(prompt, settings, sample=sample)) for sample, prompt in enumerate(prompts)]

    def stream(self, prompt: str, settings: SamplingSettings, sample: int = 0) -> Iterator[str]:
        """Characters as they are made, one at a time.

        Characters of the prompt that the model never saw are read as `<unk>`, with a warning; neither `<unk>` nor
        `<pad>` is ever made.
        """
        logger.debug("generating %d characters", settings.length)
        noise = np.random.Generator(np.random.Philox(key=[settings.seed, sample]))
        with torch.inference_mode():
            self.model.eval()
            logits, state = self.model(self._prompt_ids(prompt))
        made = ""
        longest_stop = max((len(stop) for stop in settings.stop), default=0)
        for _ in range(settings.length):
            token_id = draw(logits[0, -1].double().cpu().numpy(), settings, noise)
            character = self.encoder.vocabulary.tokens[token_id]
            yield character
            made = (made + character)[-longest_stop:] if longest_stop else ""
            if any(made.endswith(stop) for stop in settings.stop if stop):
                return
            with torch.inference_mode():
                logits, state = self.model(torch.tensor([[token_id]], device=self.device), state)

    def _prompt_ids(self, prompt: str) -> torch.Tensor:
        # a model needs something to read: an empty prompt stands at the start of a line
        token_ids = self.encoder.encode(prompt or "\n")
        unknown = sorted({character for character in prompt if self.encoder.encode(character)[0] == Vocabulary.UNK_ID})
        if unknown:
            shown = " ".join(repr(character) for character in unknown[:10])
            logger.warning("the model never saw %s; read as an unknown character", shown)
        return torch.tensor([list(token_ids)], dtype=torch.int64, device=self.device)


def draw(logits: FloatArray, settings: SamplingSettings, noise: np.random.Generator) -> int:
    """Draw one id from logits (V,) after temperature, top-k, top-p and min-p, by the Gumbel-max trick.

    Raises PredictionError where there is nothing to draw: logits that are not numbers, or no character in them.
    """
    gumbel = noise.gumbel(size=logits.shape)
    logits = logits.copy()
    logits[[Vocabulary.PAD_ID, Vocabulary.UNK_ID]] = -np.inf
    highest = logits.max()
    if not np.isfinite(highest):
        raise PredictionError("The model gives no character a finite score; it is damaged: train it again.")
    if settings.temperature == 0:
        return int(logits.argmax())
    with np.errstate(over="ignore"):  # a temperature near 0 sends all but the likeliest to minus infinity
        logits = (logits - highest) / settings.temperature
    return int((keep_likely(logits, settings) + gumbel).argmax())


def keep_likely(logits: FloatArray, settings: SamplingSettings) -> FloatArray:
    """Logits (V,) with those that top-k, top-p and min-p leave out at minus infinity. The likeliest always stays."""
    order = np.argsort(-logits, kind="stable")
    probs = np.exp(logits[order] - logits[order[0]])
    probs /= probs.sum()
    kept = np.ones(len(order), dtype=bool)
    if settings.top_k:
        kept[settings.top_k :] = False
    if settings.top_p < 1.0:  # sums of rounded numbers may reach 1 before the last one
        kept &= np.concatenate([[0.0], np.cumsum(probs)[:-1]]) < settings.top_p
    kept &= probs >= settings.min_p * probs[0]
    kept[0] = True
    result = np.full_like(logits, -np.inf)
    result[order[kept]] = logits[order[kept]]
    return result
