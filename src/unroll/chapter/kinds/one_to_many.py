"""One to many: something that is no sequence goes in, a sequence comes out, as in captioning a picture.

(two, red, square, left)    ->  two red squares left .
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unroll.chapter.synthetic import SequenceBatch, SyntheticProblem
from unroll.models.recurrent import Recurrent

NUMBERS = ("a", "two", "three")
COLOURS = ("red", "blue", "green", "grey")
SHAPES = ("square", "circle", "star", "cross")
PLACES = ("", "left", "right", "above", "below")
"""Of something in the middle the caption says no place, so captions differ in length."""
WORDS = (".", *NUMBERS, *COLOURS, *SHAPES, *(f"{shape}s" for shape in SHAPES), *PLACES[1:])
SIZES = (len(NUMBERS), len(COLOURS), len(SHAPES), len(PLACES))
CAPTION_LENGTH = 5


class OneToManyModel(nn.Module):
    """The picture is read at the first step only; the state has to say the rest."""

    def __init__(self, hidden_size: int = 64) -> None:
        super().__init__()
        self.recurrent = Recurrent(sum(SIZES), hidden_size)
        self.output = nn.Linear(hidden_size, len(WORDS))

    def forward(self, features: Tensor) -> Tensor:
        """features: (B, E) float. Returns logits (B, CAPTION_LENGTH, V)."""
        silence = features.new_zeros(features.size(0), CAPTION_LENGTH - 1, features.size(1))
        inputs = torch.cat([features.unsqueeze(1), silence], dim=1)
        logits: Tensor = self.output(self.recurrent(inputs).sequence)
        return logits


class OneToMany(SyntheticProblem):
    """Describe a picture that is given by its features; a fifth of all pictures is never shown in training."""

    def make_model(self) -> nn.Module:
        """A new model, drawn from the global generator."""
        return OneToManyModel()

    def draw(self, generator: np.random.Generator, count: int) -> SequenceBatch:
        """One-hot features (B, E) of pictures to learn from, and their captions (B, CAPTION_LENGTH)."""
        return self._describe(generator.choice(self._pictures(shown=True), count))

    def validation_items(self) -> SequenceBatch:
        """Every picture that training never shows."""
        return self._describe(self._pictures(shown=False))

    def _pictures(self, shown: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        every = np.stack(np.unravel_index(np.arange(np.prod(SIZES)), SIZES), axis=1)
        hidden = np.random.default_rng(self.seed).permutation(len(every)) < len(every) // 5
        return every[~hidden if shown else hidden]

    def _describe(self, pictures: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> SequenceBatch:
        table = torch.from_numpy(pictures)
        features = torch.cat([functional.one_hot(table[:, i], size) for i, size in enumerate(SIZES)], dim=1)
        captions = [[WORDS.index(word) for word in caption(*picture)] for picture in pictures.tolist()]
        return SequenceBatch(features.float(), torch.tensor(captions))


def caption(number: int, colour: int, shape: int, place: int) -> list[str]:
    """The words for a picture, filled up to CAPTION_LENGTH with full stops."""
    plural = "s" if number > 0 else ""
    words = [NUMBERS[number], COLOURS[colour], SHAPES[shape] + plural, PLACES[place]]
    words = [word for word in words if word]
    return words + ["."] * (CAPTION_LENGTH - len(words))
