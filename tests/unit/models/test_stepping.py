"""Reading character by character by hand is the model's own forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from unroll.config import CharModelConfig
from unroll.models.language_model import CharLanguageModel
from unroll.models.stepping import SteppingModel

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
        expected, _ = model(token_ids)
        _, state = model(token_ids[:, :1])
    stepper = SteppingModel(model).begin(state)
    for step in range(1, 1 + STEPS):
        logits = stepper.step(token_ids[:, step].numpy())
        np.testing.assert_allclose(logits, expected[:, step], rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", [{"cell": "lstm"}, {"cell": "rnn_tanh", "recurrence": "output_to_hidden"}])
def test_the_texts_that_are_kept_go_on_as_they_would_have(settings: dict[str, Any]) -> None:
    model = make_model(num_layers=2, **settings)
    token_ids = torch.randint(VOCAB_SIZE, (BATCH, 4))
    with torch.no_grad():
        expected, _ = model(token_ids)
        _, state = model(token_ids[:, :1])
    stepper = SteppingModel(model).begin(state)
    stepper.step(token_ids[:, 1].numpy())
    stepper.keep([0, 2])
    for step in (2, 3):
        logits = stepper.step(token_ids[[0, 2], step].numpy())
        np.testing.assert_allclose(logits, expected[[0, 2], step], rtol=0, atol=1e-12)


def test_beginning_copies_the_state_and_shares_the_weights() -> None:
    model = make_model(cell="lstm")
    token_ids = np.array([3, 4, 5])
    with torch.no_grad():
        _, state = model(torch.zeros(BATCH, 1, dtype=torch.int64))
    stepping_model = SteppingModel(model)
    first = stepping_model.begin(state).step(token_ids).copy()
    assert np.array_equal(first, stepping_model.begin(state).step(token_ids))


def test_one_made_after_the_weights_have_changed_reads_with_the_new_ones() -> None:
    model = make_model(cell="lstm")
    token_ids = np.zeros(1, np.int64)
    with torch.no_grad():
        _, state = model(torch.zeros(1, 1, dtype=torch.int64))
    before = SteppingModel(model).begin(state).step(token_ids)
    with torch.no_grad():
        model.embedding.weight.mul_(2)
    after = SteppingModel(model).begin(state).step(token_ids)
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("settings", [{"cell": "lstm"}, {"cell": "gru", "recurrence": "hidden_to_hidden"}])
def test_texts_that_came_later_are_read_with_those_that_were_there(settings: dict[str, Any]) -> None:
    model = make_model(num_layers=2, **settings)
    token_ids = torch.randint(VOCAB_SIZE, (BATCH, 4))
    with torch.no_grad():
        expected, _ = model(token_ids)
        _, first_state = model(token_ids[:2, :1])
        _, later_state = model(token_ids[2:, :2])
    stepping_model = SteppingModel(model)
    stepper = stepping_model.begin(first_state)
    stepper.step(token_ids[:2, 1].numpy())
    together = tuple(
        tuple(torch.cat(parts, dim=1) for parts in zip(*layers, strict=True))
        for layers in zip(stepper.state(), later_state, strict=True)
    )
    stepper = stepping_model.begin(together)
    for step in (2, 3):
        logits = stepper.step(token_ids[:, step].numpy())
        np.testing.assert_allclose(logits, expected[:, step], rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", [{"cell": "lstm"}, {"cell": "gru"}, {"cell": "rnn_tanh"}])
def test_bfloat16_products_differ_by_their_rounding_only(settings: dict[str, Any]) -> None:
    model = make_model(num_layers=2, **settings).float()
    token_ids = torch.randint(VOCAB_SIZE, (BATCH, 1 + STEPS))
    with torch.no_grad():
        expected, _ = model(token_ids)
        _, state = model(token_ids[:, :1])
    stepper = SteppingModel(model, "bfloat16").begin(state)
    stepper.step(token_ids[:, 1].numpy())
    stepper.keep([0, 2])
    differences = []
    for step in range(2, 1 + STEPS):
        logits = stepper.step(token_ids[[0, 2], step].numpy())
        differences.append(np.abs(logits - expected[[0, 2], step].numpy()).max())
    spread = float(expected.std())
    assert 0 < max(differences) < 0.05 * spread
