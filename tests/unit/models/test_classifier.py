"""The classifier pools exactly, for any number of classes, or with one logit for two; word dropout is for training."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unroll.config import SentimentModelConfig
from unroll.errors import ConfigError
from unroll.models.classifier import SentimentClassifier

POOLINGS = [names for count in (1, 2, 3) for names in combinations(("last", "mean", "max"), count)]


def make(num_classes: int = 2, **settings: object) -> SentimentClassifier:
    torch.manual_seed(0)
    small = {"embedding_dim": 4, "hidden_size": 3, "num_layers": 2}
    return SentimentClassifier(SentimentModelConfig.model_validate(small | settings), 20, num_classes).eval()


def texts(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([5, 1, 9, 3])
    token_ids = torch.randint(1, 20, (4, 9), generator=generator)
    return token_ids.masked_fill(torch.arange(9) >= lengths.unsqueeze(1), 0), lengths


@pytest.mark.parametrize("num_classes", [2, 3, 7])
@pytest.mark.parametrize("head_size", [None, 6])
def test_there_is_one_logit_per_class(num_classes: int, head_size: int | None) -> None:
    assert make(num_classes, head_size=head_size)(*texts()).shape == (4, num_classes)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_padded_batch_equals_each_text_alone(pooling: tuple[str, ...], bidirectional: bool) -> None:
    model = make(pooling=pooling, bidirectional=bidirectional)
    token_ids, lengths = texts()
    together = model(token_ids, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = torch.stack([naive_logits(model, token_ids[row, :length])])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)


def naive_logits(model: SentimentClassifier, token_ids: Tensor) -> Tensor:
    """One text without padding, layer by layer, each pooling as its name says."""
    sequence = model.embedding(token_ids).unsqueeze(0)
    stack = model.recurrent
    for depth, layer in enumerate(stack.forward_layers):
        outputs, finals = [layer(sequence)[0]], []
        finals.append(outputs[0][0, -1])
        if stack.bidirectional:
            backward = stack.backward_layers[depth](sequence.flip(1))[0]
            outputs.append(backward.flip(1))
            finals.append(backward[0, -1])
        sequence = torch.cat(outputs, dim=-1)
    pooled = {"last": torch.cat(finals), "mean": sequence[0].mean(0), "max": sequence[0].amax(0)}
    logits: Tensor = model.head(torch.cat([pooled[name] for name in model.pooling]))
    return logits


def test_max_pooling_never_sees_padding_even_where_every_state_is_negative() -> None:
    model = make(pooling=("max",), cell="rnn_tanh", num_layers=1, bidirectional=False)
    with torch.no_grad():
        layer = model.recurrent.forward_layers[0]
        layer.bias_ih_l0.fill_(-2.0)
    token_ids, lengths = texts()
    assert torch.allclose(model(token_ids, lengths)[1], naive_logits(model, token_ids[1, :1]), atol=1e-6)


def test_word_dropout_replaces_words_only_while_training() -> None:
    model = make(word_dropout=0.5)
    token_ids, lengths = texts()
    seen: list[Tensor] = []
    model.embedding.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(token_ids, lengths)
    assert torch.equal(seen.pop(), token_ids)
    model.train()
    model(token_ids, lengths)
    changed = seen[0] != token_ids
    assert changed.any()
    assert (seen[0][changed] == 1).all()
    assert (seen[0][token_ids == 0] == 0).all()


def test_evaluation_is_deterministic_and_training_is_not() -> None:
    model = make(dropout=0.5, embedding_dropout=0.5, word_dropout=0.3)
    assert torch.equal(model(*texts()), model(*texts()))
    model.train()
    assert not torch.equal(model(*texts()), model(*texts()))


def test_the_padding_row_stays_zero() -> None:
    model = make()
    model(*texts()).sum().backward()
    assert model.embedding.weight.grad is not None
    assert model.embedding.weight[0].abs().max() == 0
    assert model.embedding.weight.grad[0].abs().max() == 0


# one logit for two classes


def with_its_logit(model: SentimentClassifier) -> tuple[Tensor, Tensor]:
    """The two logits (B, 2) that the model answers with, and the single one (B, 1) that its head made."""
    made: list[Tensor] = []
    hook = model.head.register_forward_hook(lambda module, inputs, output: made.append(output))
    logits = model(*texts())
    hook.remove()
    return logits, made[0]


def sigmoid_model(scale: float, head_size: int | None) -> SentimentClassifier:
    """In float64, its single logit made larger."""
    model = make(output="sigmoid", head_size=head_size).double()
    with torch.no_grad():
        last = model.head if head_size is None else model.head[-1]  # type: ignore[index]
        last.weight.mul_(scale)
    return model


@pytest.mark.parametrize("scale", [1.0, 1e3])
@pytest.mark.parametrize("head_size", [None, 6])
def test_a_sigmoid_output_is_the_probability_of_the_second_class(head_size: int | None, scale: float) -> None:
    logits, single = with_its_logit(sigmoid_model(scale, head_size))
    assert single.shape == (4, 1)
    expected = torch.cat([torch.sigmoid(-single), torch.sigmoid(single)], dim=1)
    torch.testing.assert_close(logits.softmax(dim=1), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e3])
@pytest.mark.parametrize("head_size", [None, 6])
def test_its_cross_entropy_is_the_binary_one_and_so_are_the_gradients(head_size: int | None, scale: float) -> None:
    model, twin = sigmoid_model(scale, head_size), sigmoid_model(scale, head_size)
    labels = torch.tensor([0, 1, 1, 0])
    loss = functional.cross_entropy(with_its_logit(model)[0], labels)
    single = with_its_logit(twin)[1].squeeze(1)
    binary = functional.binary_cross_entropy_with_logits(single, labels.double())
    torch.testing.assert_close(loss, binary, atol=1e-12, rtol=1e-12)
    loss.backward()
    binary.backward()
    for (name, parameter), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0, name
        torch.testing.assert_close(parameter.grad, other.grad, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("num_classes", [1, 3, 7])
def test_a_sigmoid_output_for_other_than_two_classes_is_refused_by_name(num_classes: int) -> None:
    message = rf"model\.output=sigmoid needs two classes, the corpus has {num_classes}; use softmax"
    with pytest.raises(ConfigError, match=message):
        make(num_classes, output="sigmoid")
