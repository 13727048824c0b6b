"""The whole stack, for a module's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stack_world import Stack, new_stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """PostgreSQL, Prefect, MLflow, a worker and serve, healthy, on free ports; `stack.folder` is where they work."""
    with new_stack() as made:
        made.up()
        yield made
