"""Waiting for an answer no longer than the client does."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from fastapi import Request

T = TypeVar("T")


class ClientGone(Exception):  # noqa: N818 - nobody is there to be told
    """The client closed its connection before it had an answer."""


async def wait_while_connected(request: Request, answer: asyncio.Future[T]) -> T:
    """The future's result. Where the client goes first, the future is cancelled; raises ClientGone."""
    if answer.done():
        return answer.result()
    # the body has been read, so the next thing to be received is the client's going
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise ClientGone
    finally:
        gone.cancel()
        answer.cancel()
