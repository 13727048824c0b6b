"""Whether a model that was loaded back from somewhere answers as the model did that was evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unroll.config import AnyConfig, SentimentConfig
from unroll.data.corpora import ReviewCorpus, TextCorpus
from unroll.data.splits import split_reviews
from unroll.errors import CheckpointError, RegistryError
from unroll.evaluation.running_text import TestText, read_test_text, score_test_text
from unroll.evaluation.sentiment import read_test_items
from unroll.models.saved import SavedModel, load_model
from unroll.prediction import SentimentPredictor
from unroll.training.device import resolve_device

SAMPLE_ITEMS = 256
SAMPLE_CHARACTERS = 1_000
TOLERANCE = 1e-3
"""Of a probability, or of a character's nats. Other batches round otherwise; a GPU in TF32 by up to 3e-4."""


def check_reloaded(config: AnyConfig, corpus_folder: Path, model_folder: Path, evaluation_folder: Path) -> int:
    """Score a sample of the test items with a model folder and compare with the evaluation; returns their number.

    Raises RegistryError where an answer differs, CheckpointError where the model cannot be loaded.
    """
    saved = load_model(model_folder, resolve_device(config.training.device))
    predictions = pd.read_parquet(evaluation_folder / "predictions.parquet")
    if isinstance(config, SentimentConfig):
        found, expected = _sampled_probs(config, saved, corpus_folder, predictions)
    else:
        test = read_test_text(TextCorpus.open(corpus_folder), config)
        start = TestText(test.text[:SAMPLE_CHARACTERS], test.context, None, test.digest)
        found = score_test_text(saved, start)
        expected = predictions["nats"].to_numpy()[: len(found)]
    if not np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
        raise RegistryError(
            f"The model that the registry gives back does not answer as the evaluated one did (off by up to "
            f"{np.abs(found - expected).max():.3g} on {len(found)} test items): its files were changed or mixed up. "
            "Run again with --from register."
        )
    return len(found)


def _sampled_probs(
    config: SentimentConfig, saved: SavedModel, corpus_folder: Path, predictions: pd.DataFrame
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    corpus = ReviewCorpus.open(corpus_folder)
    predictor = SentimentPredictor(saved)
    columns = [f"probability_{name}" for name in predictor.class_names]
    if predictor.class_names != corpus.class_names or not set(columns) <= set(predictions):
        raise CheckpointError(
            f"The model tells {', '.join(predictor.class_names)} apart, its corpus {', '.join(corpus.class_names)}; "
            "run again with --from train."
        )
    texts = read_test_items(corpus, split_reviews(corpus, config.data, config.seed)).texts
    chosen = np.random.default_rng(config.seed).permutation(len(texts))[:SAMPLE_ITEMS]
    return predictor.predict([texts[item] for item in chosen]), predictions[columns].to_numpy()[chosen]
