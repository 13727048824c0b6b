"""`auto` follows the measured table; names that are none are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unroll.config import CharModelConfig, SentimentModelConfig
from unroll.errors import PredictionError
from unroll.models.classifier import SentimentClassifier
from unroll.models.language_model import CharLanguageModel
from unroll.precision import generation_precision, scoring_precision, training_precision

CPU = torch.device("cpu")


def classifier(cell: str) -> SentimentClassifier:
    config = SentimentModelConfig.model_validate({"embedding_dim": 4, "hidden_size": 4, "cell": cell})
    return SentimentClassifier(config, 10, 2)


@pytest.mark.parametrize(
    ("cell", "capabilities", "device", "expected"),
    [
        ("lstm", {"avx512_bf16": True}, "cpu", "bfloat16"),
        ("lstm", {"amx_bf16": True}, "cpu", "bfloat16"),
        ("lstm", {"avx2": True, "avx512_bf16": False}, "cpu", "float32"),
        ("gru", {"avx512_bf16": True}, "cpu", "float32"),
        ("rnn_tanh", {"avx512_bf16": True}, "cpu", "float32"),
        ("lstm", {"avx512_bf16": True}, "cuda", "float32"),
    ],
)
def test_auto_is_bfloat16_where_that_was_measured_to_pay(
    cell: str, capabilities: dict[str, Any], device: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert scoring_precision("auto", classifier(cell), torch.device(device)) == expected


def test_a_precision_that_is_named_is_kept_and_another_name_refused() -> None:
    assert scoring_precision("float32", classifier("lstm"), CPU) == "float32"
    assert scoring_precision("bfloat16", classifier("gru"), CPU) == "bfloat16"
    with pytest.raises(PredictionError, match="precision is 'int4'; expected float32, bfloat16, auto"):
        scoring_precision("int4", classifier("lstm"), CPU)


def test_training_follows_the_same_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert training_precision("auto", classifier("lstm"), CPU) == "bfloat16"
    assert training_precision("auto", classifier("gru"), CPU) == "float32"
    assert training_precision("auto", classifier("lstm"), torch.device("cuda")) == "float32"
    assert training_precision("float16", classifier("lstm"), CPU) == "float16"


def test_one_text_alone_is_made_in_float32_and_several_as_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    model = CharLanguageModel(CharModelConfig(embedding_dim=4, hidden_size=4), 10)
    assert generation_precision("auto", model, CPU, 1) == "float32"
    assert generation_precision("auto", model, CPU, 2) == "bfloat16"
    assert generation_precision("bfloat16", model, CPU, 1) == "bfloat16"
    assert generation_precision("float32", model, CPU, 64) == "float32"
    with pytest.raises(PredictionError, match="precision is 'int8'"):
        generation_precision("int8", model, CPU, 64)
