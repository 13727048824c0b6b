"""Adam for embeddings of many words, of which a step touches few: the rows of a batch are moved, the others wait.

Dense Adam goes on moving a row after its word was last read, since its moments outlive the gradient. Leaving that out,
as `torch.optim.SparseAdam` does, makes rare words learn several times slower. Here a row that comes up again is
first given, in one product, all that it has missed. With m and v its moments when step s last touched it, dense Adam
moves it at step i > s, where its gradient is zero, by

    -lr_i / c1_i * beta1^(i-s) m / (sqrt(beta2^(i-s) v) / sqrt(c2_i) + eps)

with c1_i = 1 - beta1^i and c2_i = 1 - beta2^i: but for eps, m / sqrt(v) times a number that is the same for every row
last touched at s. So the results are those of dense Adam to rounding, but where gradients are as small as eps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unroll.training.gradients import coalesce_rows

SWEEP_STEPS = 256
"""Steps after which every row is brought up to date, so that no more than so many need to be remembered."""

FloatArray = NDArray[np.float64]


class LazyAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015), decay decoupled (Loshchilov and Hutter 2019), of matrices with sparse gradients.

    Rows are out of date between two steps; call `settle` before the matrix is used as a whole.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        """params: matrices (rows, columns), or groups of them."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move the rows that the gradients name. A gradient is sparse, (rows, columns) with one sparse dimension.

        Raises ValueError for a dense gradient, and for a closure, which would need the matrix as a whole.
        """
        if closure is not None:
            raise ValueError("LazyAdam takes no closure.")
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._step(matrix, group)

    @torch.no_grad()
    def settle(self) -> None:
        """Bring every row up to date: the matrices are then what dense Adam would have made of them."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix in self.state:
                    _settle(matrix, self.state[matrix], group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, in the same bits."""
        super().load_state_dict(state_dict)
        matrices = [matrix for group in self.param_groups for matrix in group["params"]]
        for index, saved in state_dict["state"].items():
            # the base class turns everything into the matrix's own dtype
            self.state[matrices[index]] = {
                name: value.clone() if isinstance(value, Tensor) else value for name, value in saved.items()
            }

    def _step(self, matrix: Tensor, group: dict[str, Any]) -> None:
        gradient = matrix.grad
        assert gradient is not None
        if not gradient.is_sparse:
            raise ValueError("LazyAdam needs a sparse gradient; make the embedding with sparse=True.")
        gradient = coalesce_rows(gradient)
        rows, values = gradient.indices()[0], gradient.values()
        state = self.state[matrix]
        if not state:
            state.update(_first_state(matrix))
        if state["step"] - state["swept"] == SWEEP_STEPS:
            _settle(matrix, state, group)

        weights, mean, square = _up_to_date(matrix, state, group, rows)
        (beta1, beta2), lr = group["betas"], group["lr"]
        step = state["step"] = state["step"] + 1
        correction1, root_correction2 = 1 - beta1**step, (1 - beta2**step) ** 0.5
        mean.lerp_(values, 1 - beta1)
        square.mul_(beta2).addcmul_(values, values, value=1 - beta2)
        weights.mul_(1 - lr * group["weight_decay"])
        # sqrt(square) / root_correction2 + eps, with the corrections drawn together
        denominator = square.sqrt().add_(group["eps"] * root_correction2)
        weights.addcdiv_(mean, denominator, value=-lr * root_correction2 / correction1)

        for whole, part in ((matrix, weights), (state["exp_avg"], mean), (state["exp_avg_sq"], square)):
            whole.index_copy_(0, rows, part)
        state["touched"][rows] = step
        _remember(state, group)


def _first_state(matrix: Tensor) -> dict[str, Any]:
    return {
        "step": 0,
        "swept": 0,
        "touched": torch.zeros(len(matrix), dtype=torch.int64),
        "exp_avg": torch.zeros_like(matrix),
        "exp_avg_sq": torch.zeros_like(matrix),
        # of a row that was last touched i steps after the last sweep: how often m / sqrt(v) it has still to be moved
        # by, the share of it that weight decay leaves, and sqrt(c2) at the step that followed
        "missed": torch.zeros(SWEEP_STEPS + 1, dtype=torch.float64),
        "kept": torch.ones(SWEEP_STEPS + 1, dtype=torch.float64),
        "root_correction2": torch.ones(SWEEP_STEPS + 1, dtype=torch.float64),
    }


def _remember(state: dict[str, Any], group: dict[str, Any]) -> None:
    """Add the step just made to what every row not in it has missed."""
    (beta1, beta2), lr, step = group["betas"], group["lr"], state["step"]
    since_sweep = step - state["swept"]
    root_correction2 = (1 - beta2**step) ** 0.5
    steps_ago = torch.arange(since_sweep, 0, -1, dtype=torch.float64)
    share = lr * root_correction2 / (1 - beta1**step)
    left = 1 - lr * group["weight_decay"]
    missed = state["missed"][:since_sweep]
    missed.mul_(left).add_((beta1 / beta2**0.5) ** steps_ago, alpha=share)
    state["kept"][:since_sweep] *= left
    state["root_correction2"][since_sweep - 1] = root_correction2


def _up_to_date(
    matrix: Tensor, state: dict[str, Any], group: dict[str, Any], rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights and both moments of some rows as dense Adam would have them after the last step, copied."""
    beta1, beta2 = group["betas"]
    dtype = matrix.dtype
    # a line for each step that rows can have been last touched at; of each row, its line
    steps_missed = state["step"] - state["swept"] - torch.arange(SWEEP_STEPS + 1, dtype=torch.float64)
    lines = torch.stack(
        [
            state["missed"],
            state["kept"],
            group["eps"] * state["root_correction2"],
            beta1**steps_missed,
            beta2**steps_missed,
        ]
    )
    since_sweep = state["touched"][rows] - state["swept"]
    missed, kept, floor, decay1, decay2 = lines.to(dtype)[:, since_sweep].unsqueeze(2)
    mean, square = state["exp_avg"][rows], state["exp_avg_sq"][rows]
    weights = matrix[rows].mul_(kept).addcdiv_(mean * missed, square.sqrt().add_(floor), value=-1)
    return weights, mean.mul_(decay1), square.mul_(decay2)


def _settle(matrix: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    late = torch.nonzero(state["touched"] < state["step"]).squeeze(1)
    weights, mean, square = _up_to_date(matrix, state, group, late)
    for whole, part in ((matrix, weights), (state["exp_avg"], mean), (state["exp_avg_sq"], square)):
        whole.index_copy_(0, late, part)
    state["touched"].fill_(state["step"])
    state["swept"] = state["step"]
    state["missed"].zero_()
    state["kept"].fill_(1.0)
