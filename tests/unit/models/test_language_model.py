"""The language model reads forward only, carries its state, and may tie its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unroll.config import CharModelConfig
from unroll.models.language_model import CharLanguageModel
from unroll.training.checkpoint import load_weights, save_weights


def make(seed: int = 0, **settings: object) -> CharLanguageModel:
    torch.manual_seed(seed)
    small = {"embedding_dim": 6, "hidden_size": 6, "num_layers": 2, "dropout": 0.3, "embedding_dropout": 0.2}
    return CharLanguageModel(CharModelConfig.model_validate(small | settings), 11).eval()


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "gru"])
@pytest.mark.parametrize("place", [0, 4, 8])
def test_future_characters_leave_past_logits_unchanged(cell: str, place: int) -> None:
    model = make(cell=cell)
    token_ids = torch.randint(2, 11, (3, 9))
    changed = token_ids.clone()
    changed[:, place:] = (changed[:, place:] - 1) % 9 + 2
    before, after = model(token_ids)[0], model(changed)[0]
    assert torch.equal(before[:, :place], after[:, :place])
    assert not torch.allclose(before[:, place:], after[:, place:])


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "gru"])
@pytest.mark.parametrize("cuts", [[1], [4], [2, 3, 7]])
def test_windows_with_a_carried_state_equal_one_pass(cell: str, cuts: list[int]) -> None:
    model = make(cell=cell)
    token_ids = torch.randint(2, 11, (3, 9))
    whole, last = model(token_ids)
    state, parts = None, []
    for start, stop in zip([0, *cuts], [*cuts, 9], strict=True):
        logits, state = model(token_ids[:, start:stop], state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-6, rtol=1e-5)
    assert state is not None
    torch.testing.assert_close(state[1][0], last[1][0], atol=1e-6, rtol=1e-5)


def test_tied_weights_share_storage_and_stay_tied_through_saving(tmp_path: Path) -> None:
    model, other = make(tie_weights=True), make(seed=1, tie_weights=True)
    assert model.output.weight.data_ptr() == model.embedding.weight.data_ptr()
    save_weights(model, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    assert other.output.weight.data_ptr() == other.embedding.weight.data_ptr()
    token_ids = torch.randint(2, 11, (2, 5))
    assert torch.equal(model(token_ids)[0], other(token_ids)[0])


def test_free_weights_are_two_matrices() -> None:
    model = make()
    assert model.output.weight.data_ptr() != model.embedding.weight.data_ptr()


@pytest.mark.parametrize("tie_weights", [False, True])
def test_the_first_loss_is_near_that_of_a_uniform_draw(tie_weights: bool) -> None:
    torch.manual_seed(0)
    config = CharModelConfig(embedding_dim=128, hidden_size=128, tie_weights=tie_weights)
    model = CharLanguageModel(config, 80).eval()
    token_ids = torch.randint(2, 80, (4, 50))
    loss = torch.nn.functional.cross_entropy(model(token_ids)[0].flatten(0, 1), token_ids.roll(-1, 1).flatten())
    assert abs(loss.item() - torch.tensor(80.0).log().item()) < 0.3
