"""Classifying texts with a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from unroll.errors import PredictionError
from unroll.models.classifier import SentimentClassifier
from unroll.models.saved import SavedModel, load_model
from unroll.precision import scoring_precision
from unroll.scoring import score_reviews


@dataclass(frozen=True)
class EncodedTexts:
    """Token ids of a few texts in memory, in the shape that scoring reads."""

    token_ids: Sequence[NDArray[np.integer]]

    def __len__(self) -> int:
        return len(self.token_ids)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(N,): tokens of each text."""
        return np.array([len(ids) for ids in self.token_ids], dtype=np.int64)

    def item(self, index: int) -> NDArray[np.integer]:
        """Token ids of one text."""
        return self.token_ids[index]


class SentimentPredictor:
    """A trained classifier that reads text."""

    def __init__(self, saved: SavedModel) -> None:
        """Raises PredictionError where the model is no classifier."""
        if not isinstance(saved.model, SentimentClassifier):
            raise PredictionError(
                f"The model is of the project {saved.config.project}; classifying needs a sentiment model."
            )
        self.saved = saved
        self.class_names = saved.class_names

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> SentimentPredictor:
        """Read a model folder; see `unroll.models.saved.load_model`."""
        return cls(load_model(folder, device))

    def predict(self, texts: Sequence[str], precision: str = "float32") -> NDArray[np.float64]:
        """Class probabilities of each text: (N, K), columns in the order of ``class_names``.

        A text without a known word gets the answer that the model gives to an unknown word. Raises PredictionError
        for anything that is not a string, and for an unknown precision; see `unroll.precision`.
        """
        return self.predict_encoded(self.encode(texts), precision)

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Token ids of each text, as the model reads it. Raises PredictionError for anything that is not a string."""
        if isinstance(texts, str):
            raise PredictionError("Got one string; expected a list of texts, if only of one.")
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                raise PredictionError(f"Item {position} is a {type(text).__name__}; expected a text.")
        return EncodedTexts(self.saved.encoder.encode_batch(texts))

    def predict_encoded(self, encoded: EncodedTexts, precision: str = "float32") -> NDArray[np.float64]:
        """Class probabilities as `predict` gives them, of texts that are encoded already."""
        if len(encoded) == 0:
            return np.empty((0, len(self.class_names)))
        assert isinstance(self.saved.model, SentimentClassifier)
        chosen = scoring_precision(precision, self.saved.model, self.saved.device)
        return score_reviews(self.saved.model, encoded, self.saved.device, chosen)

    def predict_table(self, texts: Sequence[str], precision: str = "float32") -> pd.DataFrame:
        """A row for each text: ``label``, the likeliest class, and ``probability_<class>`` for every class."""
        return self.tabulate(self.predict(texts, precision))

    def tabulate(self, probs: NDArray[np.float64]) -> pd.DataFrame:
        """Class probabilities, (N, K), as `predict_table` shows them."""
        columns: dict[str, object] = {"label": [self.class_names[index] for index in probs.argmax(axis=1)]}
        columns |= {f"probability_{name}": probs[:, index] for index, name in enumerate(self.class_names)}
        return pd.DataFrame(columns)
