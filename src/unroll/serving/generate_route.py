"""``POST /v1/generate``: a text that goes on from a prompt, whole or as server-sent events while it is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from unroll.errors import PredictionError
from unroll.serving import schemas
from unroll.serving.dropping import wait_while_connected
from unroll.serving.metrics import ServingMetrics
from unroll.serving.problems import as_json, problem_content, responses
from unroll.serving.slot import ModelSlot, Served
from unroll.serving.streaming import MadeCharacter, TextEngine, TextStream

SECONDS_BETWEEN_EVENTS = 0.02
"""Characters come by the thousand a second; a reader is served as well by fifty events."""

EVENTS = """Server-sent events:

- `start`: `model` and `unknown`, as in the JSON answer
- `text`: `text`, the next characters, and with `probabilities` also `characters`
- `end`: `reason`, `length` (characters made) and `seconds`
- `error`: problem details; nothing follows
"""


class Reader:
    """Takes a stream's characters on the event loop."""

    def __init__(self, engine: TextEngine, body: schemas.GenerateRequest) -> None:
        """Begins the text. Raises Overloaded."""
        loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self.stream: TextStream = engine.open(
            body.prompt, body.sampling(), lambda: loop.call_soon_threadsafe(self._news.set)
        )

    async def pieces(self) -> AsyncIterator[list[MadeCharacter]]:
        """What was made since the last piece, until the text has ended."""
        while True:
            await self._news.wait()
            self._news.clear()
            has_ended = self.stream.has_ended  # asked first: what is made before the end is then there to take
            if made := self.stream.take():
                yield made
            if has_ended:
                return

    async def all(self) -> list[MadeCharacter]:
        """The whole text. Raises what the engine met."""
        made = [character async for piece in self.pieces() for character in piece]
        if self.stream.error is not None:
            raise self.stream.error
        return made


def generate_router(slot: ModelSlot[TextEngine], metrics: ServingMetrics) -> APIRouter:
    """The route, for one slot."""
    router = APIRouter()

    @router.post(
        "/v1/generate",
        summary="Go on from a prompt",
        response_model=schemas.GenerateAnswer,
        responses={
            200: {"content": {"text/event-stream": {"schema": {"description": EVENTS}}}},
            **responses(400, 401, 408, 413, 415, 422, 503),
        },
    )
    async def generate(body: schemas.GenerateRequest, request: Request) -> Response:
        """Characters drawn one after the other, by the champion that was there when the request came."""
        served = slot.get()
        reader = Reader(served.model, body)
        if body.stream:
            events = _events(served, body, reader, metrics)
            return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        try:
            made = await wait_while_connected(request, asyncio.ensure_future(reader.all()))
        finally:
            reader.stream.close()
        metrics.characters.inc(len(made))
        answer = {
            **_start(served, body),
            "text": "".join(each.character for each in made),
            "reason": reader.stream.reason,
            "seconds": reader.stream.seconds,
            "characters": _described(made) if body.probabilities else None,
        }
        return Response(as_json(answer), media_type="application/json")

    return router


async def _events(
    served: Served[TextEngine], body: schemas.GenerateRequest, reader: Reader, metrics: ServingMetrics
) -> AsyncIterator[bytes]:
    stream = reader.stream
    try:
        yield _event("start", _start(served, body))
        async for made in reader.pieces():
            metrics.characters.inc(len(made))
            piece: dict[str, Any] = {"text": "".join(each.character for each in made)}
            if body.probabilities:
                piece["characters"] = _described(made)
            yield _event("text", piece)
            if not stream.has_ended:
                await asyncio.sleep(SECONDS_BETWEEN_EVENTS)
        if stream.error is None:
            end = {"reason": stream.reason, "length": stream.num_made, "seconds": stream.seconds}
            yield _event("end", end)
        else:
            known = isinstance(stream.error, PredictionError)
            detail = str(stream.error) if known else "The text could not be made; the server's log has the details."
            yield _event("error", problem_content(500, detail))
    finally:
        stream.close()  # where the client has gone, this is what ends the work


def _start(served: Served[TextEngine], body: schemas.GenerateRequest) -> dict[str, Any]:
    return {
        "model": schemas.ModelName.of(served.version).model_dump(),
        "unknown": served.model.unknown_characters(body.prompt),
    }


def _described(made: list[MadeCharacter]) -> list[dict[str, Any]]:
    return [
        {
            "character": each.character,
            "probability": each.probability,
            "likeliest": [{"character": other, "probability": probability} for other, probability in each.likeliest],
        }
        for each in made
    ]


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + as_json(data) + b"\n\n"
