"""A client that sends nothing is not waited for; one that a busy machine held up is."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from unroll.serving.limits import Body
from unroll.serving.problems import Problem
from unroll.serving.settings import ServingSettings

SCOPE = {"type": "http", "headers": []}


async def read(receive: Any) -> bytes:
    """What a route would read of a body behind the limits."""
    parts = []

    async def route(scope: Any, receive: Any, send: Any) -> None:
        is_complete = False
        while not is_complete:
            message = await receive()
            parts.append(message["body"])
            is_complete = not message["more_body"]

    async def send(message: Any) -> None:
        raise AssertionError("a route answers here")

    await Body(route, ServingSettings(seconds_to_send=0.1))(SCOPE, receive, send)
    return b"".join(parts)


def test_a_client_that_sends_no_more_is_told_so() -> None:
    messages = iter([{"type": "http.request", "body": b"a", "more_body": True}])

    async def receive() -> Any:
        for message in messages:
            return message
        await asyncio.sleep(10)

    with pytest.raises(Problem, match="Nothing more of the body came for") as caught:
        asyncio.run(read(receive))
    assert caught.value.status_code == 408


def test_a_body_that_comes_while_the_process_is_held_up_is_read() -> None:
    async def scenario() -> bytes:
        came = asyncio.Event()

        async def receive() -> Any:
            await came.wait()
            return {"type": "http.request", "body": b"late", "more_body": False}

        def hold_up() -> None:
            time.sleep(0.2)
            came.set()

        asyncio.get_running_loop().call_later(0.01, hold_up)
        return await read(receive)

    assert asyncio.run(scenario()) == b"late"
