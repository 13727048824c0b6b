"""Parts of a work on threads: results in order, one thread of PyTorch's in each, nothing left changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unroll import threads
from unroll.threads import map_on_threads, one_blas_thread


@pytest.fixture
def two_threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_whatever_the_threads(two_threads: object) -> None:
    items = list(range(20))
    assert map_on_threads(lambda item: item * item, items) == [item * item for item in items]
    assert map_on_threads(lambda item: item * item, items, at_most=1) == [item * item for item in items]
    assert map_on_threads(lambda item: item, []) == []


def test_each_thread_has_one_of_pytorchs_and_takes_no_gradients(two_threads: object) -> None:
    seen = map_on_threads(lambda _: (torch.get_num_threads(), torch.is_inference_mode_enabled()), range(8))
    assert set(seen) == {(1, True)}
    assert torch.get_num_threads() == 2
    assert not torch.is_inference_mode_enabled()


def test_what_the_work_raises_is_raised_and_later_parts_are_not_begun(two_threads: object) -> None:
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        raise ValueError(f"part {item}")

    with pytest.raises(ValueError, match="part 0"):
        map_on_threads(work, range(1_000))
    assert len(begun) < 1_000
    assert torch.get_num_threads() == 2


def test_nested_limits_give_back_what_was() -> None:
    np.ones((2, 2)) @ np.ones((2, 2))
    libraries = threads._blas_libraries()
    before = [library.num_threads for library in libraries]
    with one_blas_thread():
        with one_blas_thread():
            assert [library.num_threads for library in libraries] == [1] * len(libraries)
        assert [library.num_threads for library in libraries] == [1] * len(libraries)
    assert [library.num_threads for library in libraries] == before
