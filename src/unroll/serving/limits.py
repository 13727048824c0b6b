"""What stands before the routes, as plain ASGI: a request that is refused costs neither its body nor a thread.

Watch        times and counts, adds the security headers, turns what nobody foresaw into a problem
  Door       the token, and how many requests are under way
    Body     how large a body may be and how long a client may take to send it
      routes
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from unroll.serving.metrics import ServingMetrics
from unroll.serving.problems import Problem, problem_response
from unroll.serving.settings import ServingSettings

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Watch:
    """Outermost: nothing leaves without its headers, and nothing passes uncounted."""

    def __init__(self, app: App, metrics: ServingMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 499  # nothing was answered: the client had gone

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        started = time.perf_counter()
        try:
            await self.app(scope, receive, send_with_headers)
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if status == 499:
                answer = problem_response(500, "No such end was foreseen; the server's log has the details.")
                await answer(scope, receive, send_with_headers)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.requests.labels(route, method, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - started)


class Door:
    """Lets in who has the token, as long as there is room. Its counter belongs to the event loop alone."""

    def __init__(self, app: App, settings: ServingSettings, metrics: ServingMetrics) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics
        self._under_way = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it before its body is read."""
        path = scope.get("path", "")
        is_work = path.startswith("/v1/")
        if scope["type"] != "http" or not (is_work or path == "/metrics"):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(Headers(scope=scope), is_work)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        self._count(is_work)
        try:
            await self.app(scope, receive, send)
        finally:
            self._count(-is_work)

    def _refusal(self, headers: Headers, is_work: bool) -> Response | None:
        if self.settings.token is not None:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            expected = self.settings.token.encode()
            if scheme.lower() != "bearer" or not secrets.compare_digest(token.strip().encode(), expected):
                found = "another token" if token else "none"
                return problem_response(
                    401,
                    f"Found {found}; expected the server's token: send the header 'Authorization: Bearer TOKEN'.",
                    {"WWW-Authenticate": "Bearer", "Connection": "close"},
                )
        if is_work and self._under_way >= self.settings.max_requests:
            self.metrics.refused.labels("requests").inc()
            return problem_response(
                503,
                f"{self._under_way} requests are under way, at most {self.settings.max_requests} may be. Try again.",
                {"Retry-After": str(self.settings.retry_after), "Connection": "close"},
            )
        return None

    def _count(self, change: int) -> None:
        self._under_way += change
        self.metrics.under_way.set(self._under_way)


class Body:
    """Counts a body's bytes while they come, whether or not the client said how many there will be."""

    def __init__(self, app: App, settings: ServingSettings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isascii() and announced.isdecimal() and int(announced) > self.settings.max_body_bytes:
            await self._too_large(f"{int(announced):,} bytes")(scope, receive, send)
            return
        read = 0
        is_complete = False

        async def receive_within_limits() -> Message:
            nonlocal read, is_complete
            if is_complete:
                return await receive()
            message = await self._receive_in_time(receive)
            read += len(message.get("body", b""))
            is_complete = message["type"] != "http.request" or not message.get("more_body", False)
            if read > self.settings.max_body_bytes:
                raise Problem(413, self._words("more"), {"Connection": "close"})
            return message

        await self.app(scope, receive_within_limits, send)

    async def _receive_in_time(self, receive: Receive) -> Message:
        # In two halves: on a machine that held this process up, the time may be over in the very moment in which what
        # came meanwhile is seen.
        for _ in range(2):
            with suppress(TimeoutError):
                async with asyncio.timeout(self.settings.seconds_to_send / 2):
                    return await receive()
        detail = f"Nothing more of the body came for {self.settings.seconds_to_send:g} s; send it again."
        raise Problem(408, detail, {"Connection": "close"})

    def _words(self, found: str) -> str:
        return f"The body has {found}; expected at most {self.settings.max_body_bytes:,} bytes: send it in parts."

    def _too_large(self, found: str) -> Response:
        return problem_response(413, self._words(found), {"Connection": "close"})
