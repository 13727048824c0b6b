"""A device that is not there is a ConfigError that says what to use."""

from __future__ import annotations

import pytest
import torch

from unroll.errors import ConfigError
from unroll.training.device import autocast, resolve_device


@pytest.mark.parametrize("name", ["meta", "nonsense", "cuda:99", "cpu:x", ""])
def test_a_device_that_cannot_train_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match="use auto or cpu") as refused:
        resolve_device(name)
    assert len(str(refused.value)) < 400


def test_auto_is_a_device_that_is_there() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_bfloat16_runs_products_in_bfloat16_and_float32_leaves_them() -> None:
    weights = torch.ones(2, 2)
    with autocast(torch.device("cpu"), "bfloat16"):
        assert (weights @ weights).dtype == torch.bfloat16
    with autocast(torch.device("cpu"), "float32"):
        assert (weights @ weights).dtype == torch.float32
