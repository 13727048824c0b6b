"""`auto` follows the measured table; names that are none are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unroll.config import SentimentModelConfig
from unroll.errors import PredictionError
from unroll.models.classifier import SentimentClassifier
from unroll.precision import scoring_precision, training_precision

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
