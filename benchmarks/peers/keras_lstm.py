"""Keras's LSTM on the PyTorch backend, where `keras` can be imported; ``make bench`` alone leaves it out.

Installed beside the environment, which it leaves as it is, and found through PYTHONPATH:

    pip install --no-deps --target FOLDER keras absl-py h5py namex optree ml_dtypes
    PYTHONPATH=FOLDER make bench
"""

from __future__ import annotations

import importlib
import importlib.util
import os

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import WARM_UP, Bout, Contestant, timed
from unroll.config import LanguageModelConfig

NAME = "Keras"


def is_there() -> bool:
    """Whether Keras is installed."""
    return importlib.util.find_spec("keras") is not None


def make_contestant(
    config: LanguageModelConfig, token_ids: NDArray[np.integer], vocab_size: int, steps: int
) -> Contestant:
    """An embedding, an LSTM and a dense layer trained with Keras's Adam at the shapes of the config."""
    os.environ["KERAS_BACKEND"] = "torch"
    keras = importlib.import_module("keras")
    model, training = config.model, config.training
    network = keras.Sequential(
        [
            keras.layers.Embedding(vocab_size, model.embedding_dim),
            keras.layers.LSTM(model.hidden_size, return_sequences=True),
            keras.layers.Dense(vocab_size),
        ]
    )
    network.compile(
        optimizer=keras.optimizers.Adam(training.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    generator = np.random.default_rng(config.seed)
    text = np.asarray(token_ids, dtype=np.int64)

    def train(num_steps: int) -> int:
        for _ in range(num_steps):
            starts = generator.integers(0, len(text) - training.window, training.batch_size)
            windows = text[starts[:, np.newaxis] + np.arange(training.window + 1)]
            network.train_on_batch(windows[:, :-1], windows[:, 1:])
        return num_steps * training.batch_size * training.window

    def bout(number: int) -> Bout:
        return timed(lambda: train(1 if number == WARM_UP else steps))

    return Contestant(NAME, f"Keras {keras.__version__}, LSTM layer on the torch backend, Adam, float32", bout)
