"""The registered model as MLflow loads it ("models from code"): text in, label and probabilities out; prompt in, text out.

MLflow copies this file into each model version and runs it on loading, in a process that has Unroll installed. Weights
travel as safetensors, settings and vocabulary as JSON; no pickle is written or read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.models import set_model


class UnrollModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A sentiment classifier or a language model, whichever the model folder holds."""

    def load_context(self, context: Any) -> None:
        """Read the model folder; see `unroll.models.saved.load_model`."""
        from unroll.generation import TextGenerator
        from unroll.models.saved import load_model
        from unroll.prediction import SentimentPredictor
        from unroll.training.device import resolve_device

        saved = load_model(Path(context.artifacts["model"]), resolve_device("auto"))
        self._predictor = SentimentPredictor(saved) if saved.class_names else None
        self._generator = None if saved.class_names else TextGenerator(saved.model, saved.encoder, saved.device)

    # without type hints: MLflow would take them for the schema, and drop the signature with its parameters
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Classify texts, or go on from prompts.

        model_input: a DataFrame with the column `text` (or `prompt`), or a list of strings. params: of a language
        model, the fields of `unroll.generation.SamplingSettings`. Returns a row for each input: `label` and
        `probability_<class>`, or `text`.
        """
        texts = _texts(model_input)
        if self._predictor is not None:
            return self._predictor.predict_table(texts)
        from unroll.generation import SamplingSettings

        assert self._generator is not None
        chosen = dict(params or {})
        chosen["stop"] = tuple(text for text in chosen.get("stop", ()) if text)
        return pd.DataFrame({"text": self._generator.generate(texts, SamplingSettings(**chosen))})


def _texts(model_input: Any) -> list[str]:
    if isinstance(model_input, pd.DataFrame):
        return [str(text) for text in model_input.iloc[:, 0].tolist()]
    return [model_input] if isinstance(model_input, str) else [str(text) for text in model_input]


set_model(UnrollModel())
