"""The registered model as MLflow loads it ("models from code"): texts in, labels or longer texts out.

MLflow copies this file into each model version and runs it on loading, in a process that has Unroll installed. Weights
travel as safetensors, settings and vocabulary as JSON; no pickle is written or read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel  # type: ignore[attr-defined]


class UnrollModel(PythonModel):
    """A sentiment classifier or a language model, whichever the model folder holds."""

    # without type hints: MLflow would take them for the schema, and drop the signature with its parameters; this
    # keeps it from asking for them in a warning at each loading
    _skip_type_hint_validation = True

    def load_context(self, context: Any) -> None:
        """Read the model folder; see `unroll.models.saved.load_model`."""
        from unroll.generation import TextGenerator
        from unroll.models.language_model import CharLanguageModel
        from unroll.models.saved import load_model
        from unroll.prediction import SentimentPredictor
        from unroll.training.device import resolve_device

        saved = load_model(Path(context.artifacts["model"]), resolve_device("auto"))
        self._generator: TextGenerator | None = None
        self._predictor: SentimentPredictor | None = None
        if isinstance(saved.model, CharLanguageModel):
            self._generator = TextGenerator(saved.model, saved.encoder, saved.device)
        else:
            self._predictor = SentimentPredictor(saved)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Classify texts, or go on from prompts.

        model_input: a list of strings, or a DataFrame whose first column holds them. params: of a language
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


def _texts(model_input: Any) -> list[Any]:
    if isinstance(model_input, pd.DataFrame):
        return list(model_input.iloc[:, 0].tolist())
    return [model_input] if isinstance(model_input, str) else list(model_input)


set_model(UnrollModel())
