"""Gradients of a batch: by one thread of Python, or by several that take some of the rows each.

PyTorch shares the work of each product among the cores. Where layers are small, a step of time has too little work to
share, and cores do better with rows of their own:

    batch    row 0 row 2 row 4 ...   thread 1, one core   ->  gradients \\
             row 1 row 3 row 5 ...   thread 2, one core   ->  gradients  + -> the step
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from unroll.models.dropout import drawing_from
from unroll.training.device import autocast
from unroll.training.problem import Batch, CarriedState, Problem

Backward = Callable[[Batch, CarriedState, tuple[int, int]], tuple[Tensor, CarriedState]]
"""Called with a batch, the state carried to it and its place, (epoch, batch). Leaves the gradients in the parameters,
and returns the mean loss in nats without a graph, and the state to carry on."""


class WholeBackward:
    """The batch as one."""

    def __init__(self, problem: Problem, scaler: torch.amp.GradScaler, device: torch.device, precision: str) -> None:
        """scaler: multiplies the loss before back-propagation."""
        self._problem = problem
        self._scaler = scaler
        self._device = device
        self._precision = precision

    def __call__(self, batch: Batch, carried: CarriedState, place: tuple[int, int]) -> tuple[Tensor, CarriedState]:
        """See `Backward`."""
        with autocast(self._device, self._precision):
            loss, carried = self._problem.loss(batch, carried)
        self._problem.model.zero_grad(set_to_none=True)
        self._scaler.scale(loss * self._problem.loss_weight(batch)).backward()  # type: ignore[no-untyped-call]
        return loss.detach(), carried


class ShardedBackward:
    """Rows of the batch shared out among threads of one core each, on a CPU.

    The sum of the gradients is taken in the order of the shards, and each shard draws its dropout from (seed, epoch,
    batch, shard): the same bits however the threads run, and however many cores there are.
    """

    def __init__(self, problem: Problem, precision: str, num_shards: int, seed: int) -> None:
        """num_shards: threads. Rows without a carried state only: see `Batch.shards`."""
        self._problem = problem
        self._precision = precision
        self._seed = seed
        self._parameters = [parameter for parameter in problem.model.parameters() if parameter.requires_grad]
        self._pool = ThreadPoolExecutor(num_shards, initializer=_use_one_core, thread_name_prefix="shard")
        self._num_shards = num_shards
        self._generators = [torch.Generator() for _ in range(num_shards)]

    def __call__(self, batch: Batch, carried: CarriedState, place: tuple[int, int]) -> tuple[Tensor, CarriedState]:
        """See `Backward`."""
        assert carried is None
        shards = batch.shards(self._num_shards)
        seeds = np.random.SeedSequence([self._seed, *place]).generate_state(len(shards), np.uint64)
        weights = [shard.num_rows / batch.num_rows for shard in shards]
        results = list(self._pool.map(self._gradients, shards, weights, self._generators, seeds))
        for parameter, *gradients in zip(self._parameters, *(of_shard for _, of_shard in results), strict=True):
            parameter.grad = _total(gradients)
        losses = torch.stack([loss * weight for (loss, _), weight in zip(results, weights, strict=False)])
        return losses.sum(), None

    def _gradients(
        self, shard: Batch, weight: float, generator: torch.Generator, seed: np.uint64
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        generator.manual_seed(int(seed) >> 1)  # int64 is what it takes
        with drawing_from(generator):
            with autocast(torch.device("cpu"), self._precision):
                loss, _ = self._problem.loss(shard, None)
            scaled = loss * (weight * self._problem.loss_weight(shard))
            return loss.detach(), torch.autograd.grad(scaled, self._parameters)


def _total(gradients: list[Tensor]) -> Tensor:
    if gradients[0].is_sparse:
        rows = torch.cat([gradient._indices() for gradient in gradients], dim=1)
        values = torch.cat([gradient._values() for gradient in gradients])
        return torch.sparse_coo_tensor(rows, values, gradients[0].shape, check_invariants=False)
    total = gradients[0]
    for gradient in gradients[1:]:
        total = total + gradient
    return total


@contextmanager
def one_core(where: bool = True) -> Iterator[None]:
    """Within the block PyTorch uses one core in this thread, if ``where`` says so.

    A second thread that PyTorch keeps waiting for work spins, and takes a core from the shards.
    """
    usual = torch.get_num_threads()
    if where:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def _use_one_core() -> None:
    torch.get_num_threads()  # a thread takes PyTorch's number when first asked, which would undo the next line
    torch.set_num_threads(1)
