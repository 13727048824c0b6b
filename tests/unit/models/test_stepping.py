"""Reading character by character by hand is the model's own forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unroll.config import CharModelConfig
from unroll.models.language_model import CharLanguageModel
from unroll.models.stepping import Stepper

VOCAB_SIZE, BATCH, STEPS = 11, 3, 9


def make_model(**settings: Any) -> CharLanguageModel:
    torch.manual_seed(0)
    config = CharModelConfig.model_validate({"embedding_dim": 6, "hidden_size": 8, "dropout": 0.5, **settings})
    return CharLanguageModel(config, VOCAB_SIZE).double().eval()


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "lstm"},
        {"cell": "gru"},
        {"cell": "rnn_tanh"},
        {"cell": "rnn_relu"},
        {"cell": "rnn_tanh", "recurrence": "output_to_hidden"},
        {"cell": "rnn_relu", "recurrence": "output_to_output"},
        {"cell": "lstm", "embedding_dim": 8, "tie_weights": True},
    ],
)
def test_steps_equal_the_models_forward_pass(settings: dict[str, Any], num_layers: int) -> None:
    model = make_model(num_layers=num_layers, **settings)
    token_ids = torch.randint(VOCAB_SIZE, (BATCH, 1 + STEPS))
    with torch.no_grad():
        expected, expected_state = model(token_ids)
        _, state = model(token_ids[:, :1])
    stepper = Stepper(model)
    for step in range(1, 1 + STEPS):
        logits, state = stepper.step(token_ids[:, step], state)
        torch.testing.assert_close(logits, expected[:, step], rtol=0, atol=1e-12)
    torch.testing.assert_close(state, expected_state, rtol=0, atol=1e-12)


def test_a_stepper_made_after_the_weights_have_changed_reads_with_the_new_ones() -> None:
    model = make_model(cell="lstm")
    token_ids = torch.zeros(1, dtype=torch.int64)
    _, state = model(token_ids.unsqueeze(1))
    before, _ = Stepper(model).step(token_ids, state)
    with torch.no_grad():
        model.embedding.weight.mul_(2)
    after, _ = Stepper(model).step(token_ids, state)
    assert not torch.equal(before, after)
