"""Gradients of a batch are the same whether one thread takes all of it or several take some rows each."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from unroll.config import AnyConfig, SentimentConfig
from unroll.data.batching import TextBatch
from unroll.data.encoded import EncodedCorpus
from unroll.training.backward import ShardedBackward, WholeBackward, one_core
from unroll.training.seed import seed_torch
from unroll.training.sentiment import SentimentProblem

CPU = torch.device("cpu")
NO_DROPOUT = {"dropout": 0.0, "word_dropout": 0.0}
PLACE = (0, 3)

SmallConfig = Callable[..., AnyConfig]
MakeProblem = Callable[..., SentimentProblem]


@pytest.fixture
def make_problem(small_config: SmallConfig, encoded_reviews: EncodedCorpus) -> MakeProblem:
    """make_problem(settings of the model): always from the same weights."""

    def make(sparse: bool = False, **model: object) -> SentimentProblem:
        config = small_config("sentiment", model=model)
        assert isinstance(config, SentimentConfig)
        seed_torch(1)
        problem = SentimentProblem(config, encoded_reviews)
        problem.model.embedding.sparse = sparse
        problem.model.train()
        return problem

    return make


def whole(problem: SentimentProblem, precision: str = "float32") -> WholeBackward:
    return WholeBackward(problem, torch.amp.GradScaler("cpu", enabled=False), CPU, precision)


def gradients_of(problem: SentimentProblem) -> dict[str, Tensor]:
    return {
        name: parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad.clone()
        for name, parameter in problem.model.named_parameters()
        if parameter.grad is not None
    }


def batch_of(problem: SentimentProblem) -> TextBatch:
    return next(iter(problem.batches(0, 0)))


@pytest.mark.parametrize("num_shards", [2, 3, 8, 20])
@pytest.mark.parametrize("sparse", [False, True])
def test_shards_give_the_gradients_and_the_loss_of_the_whole(
    make_problem: MakeProblem, num_shards: int, sparse: bool
) -> None:
    expected, problem = make_problem(**NO_DROPOUT), make_problem(sparse=sparse, **NO_DROPOUT)
    batch = batch_of(problem)
    loss, carried = whole(expected)(batch, None, PLACE)
    sharded_loss, sharded_carried = ShardedBackward(problem, "float32", num_shards, seed=1)(batch, None, PLACE)
    torch.testing.assert_close(sharded_loss, loss)
    assert carried is sharded_carried is None
    assert gradients_of(problem).keys() == gradients_of(expected).keys() != set()
    for name, gradient in gradients_of(expected).items():
        torch.testing.assert_close(gradients_of(problem)[name], gradient, rtol=1e-4, atol=1e-6)


def test_gradients_do_not_add_up_over_batches(make_problem: MakeProblem) -> None:
    for make in (whole, lambda problem: ShardedBackward(problem, "float32", 2, seed=1)):
        problem = make_problem(**NO_DROPOUT)
        backward, batch = make(problem), batch_of(problem)
        backward(batch, None, PLACE)
        once = gradients_of(problem)
        backward(batch, None, PLACE)
        assert all(torch.equal(gradient, once[name]) for name, gradient in gradients_of(problem).items())


def test_dropout_follows_the_place_in_the_data_and_the_seed(make_problem: MakeProblem) -> None:
    problem = make_problem()
    batch = batch_of(problem)

    def gradients(seed: int, place: tuple[int, int]) -> dict[str, Tensor]:
        ShardedBackward(problem, "float32", 2, seed)(batch, None, place)
        return gradients_of(problem)

    first = gradients(1, (0, 3))
    assert all(torch.equal(gradient, first[name]) for name, gradient in gradients(1, (0, 3)).items())
    for other in (gradients(2, (0, 3)), gradients(1, (1, 3)), gradients(1, (0, 4))):
        assert not torch.equal(other["head.weight"], first["head.weight"])


def test_the_bits_do_not_depend_on_the_cores_that_pytorch_may_use(make_problem: MakeProblem) -> None:
    found = []
    usual = torch.get_num_threads()
    for threads in (1, 2, 4):
        problem = make_problem()
        torch.set_num_threads(threads)
        try:
            ShardedBackward(problem, "bfloat16", 2, seed=1)(batch_of(problem), None, PLACE)
        finally:
            torch.set_num_threads(usual)
        found.append(gradients_of(problem))
    for other in found[1:]:
        assert all(torch.equal(gradient, other[name]) for name, gradient in found[0].items())


def test_each_shard_runs_in_a_thread_of_one_core(make_problem: MakeProblem) -> None:
    problem = make_problem()
    loss, seen = problem.loss, {}

    def watching(batch: TextBatch, carried: None) -> tuple[Tensor, None]:
        seen[threading.current_thread().name] = torch.get_num_threads()
        return loss(batch, carried)  # type: ignore[return-value]

    problem.loss = watching  # type: ignore[method-assign, assignment]
    before = torch.get_num_threads()
    ShardedBackward(problem, "float32", 2, seed=1)(batch_of(problem), None, PLACE)
    assert set(seen.values()) == {1}
    assert threading.current_thread().name not in seen
    assert torch.get_num_threads() == before


def test_an_error_in_a_shard_is_raised(make_problem: MakeProblem) -> None:
    problem = make_problem()

    def failing(batch: TextBatch, carried: None) -> tuple[Tensor, None]:
        raise RuntimeError("no memory")

    problem.loss = failing  # type: ignore[method-assign, assignment]
    with pytest.raises(RuntimeError, match="no memory"):
        ShardedBackward(problem, "float32", 2, seed=1)(batch_of(problem), None, PLACE)


def test_one_core_lasts_as_long_as_its_block() -> None:
    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_core():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with one_core(False):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(usual)
