"""Errors as problem details (RFC 9457), the same form everywhere: what was found, what was expected, what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from unroll.errors import PredictionError
from unroll.serving.dropping import ClientGone
from unroll.serving.metrics import ServingMetrics
from unroll.serving.overload import Overloaded
from unroll.serving.slot import NothingServed

MEDIA_TYPE = "application/problem+json"
LONGEST_SHOWN = 60

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was found, what was expected, what to do."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string"},
                    "found": {"type": "string"},
                    "expected": {"type": "string"},
                },
            },
        },
    },
}


class Problem(HTTPException):
    """An answer that says what is wrong."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))


def problem_response(
    status: int, detail: str, headers: Mapping[str, str] | None = None, errors: Sequence[Mapping[str, str]] = ()
) -> Response:
    """The problem as a response."""
    content = problem_content(status, detail, errors)
    return Response(as_json(content), status, dict(headers or {}), media_type=MEDIA_TYPE)


def problem_content(status: int, detail: str, errors: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """The problem's members."""
    content: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    content["detail"] = detail
    if errors:
        content["errors"] = [dict(error) for error in errors]
    return content


def as_json(content: Any) -> bytes:
    """UTF-8; a lone surrogate, which it cannot carry, becomes a question mark."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's OpenAPI entry says of its problems."""
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": SCHEMA}}}
        for status in statuses
    }


def add_problem_handlers(app: FastAPI, retry_after: int, metrics: ServingMetrics) -> None:
    """Answer every error that a route raises with a problem."""

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem_response(error.status_code, _in_words(error, request), error.headers)

    async def nothing_served(request: Request, error: Exception) -> Response:
        return problem_response(503, str(error), {"Retry-After": str(retry_after)})

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        if isinstance(error.body, bytes):
            found = request.headers.get("content-type", "none")
            return problem_response(415, f"The content type is {_shown(found)}; send application/json.")
        if any(each["type"] == "json_invalid" for each in error.errors()):
            return problem_response(400, f"The body is no JSON ({_json_trouble(error)}); send a JSON object.")
        errors = [_field_error(each) for each in error.errors()]
        detail = "; ".join(f"{each['field']} is {each['found']}, expected {each['expected']}" for each in errors[:3])
        more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
        return problem_response(422, f"{detail}{more}.", errors=errors[:20])

    async def failed(request: Request, error: Exception) -> Response:
        return problem_response(500, str(error))  # of a damaged model; requests are checked before

    async def overloaded(request: Request, error: Exception) -> Response:
        assert isinstance(error, Overloaded)
        metrics.refused.labels(error.reason).inc()
        return problem_response(503, f"{error} Try again.", {"Retry-After": str(retry_after)})

    async def gone(request: Request, error: Exception) -> Response:
        metrics.dropped.inc()
        return Response(status_code=499)  # to nobody

    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientGone, gone)
    app.add_exception_handler(PredictionError, failed)
    app.add_exception_handler(NothingServed, nothing_served)
    app.add_exception_handler(Overloaded, overloaded)


def _field_error(error: Mapping[str, Any]) -> dict[str, str]:
    """One of pydantic's errors as what was found and what was expected."""
    field = ".".join(str(part) for part in error["loc"][1:]) or str(error["loc"][0])
    context, value = error.get("ctx") or {}, error.get("input")
    kind = str(error["type"])
    if kind == "missing":
        return {"field": field, "found": "missing", "expected": "a value"}
    if kind == "extra_forbidden":
        return {"field": field, "found": _shown(value), "expected": "no field of this name"}
    if kind in ("string_too_long", "string_too_short", "too_long", "too_short"):
        unit = "characters" if kind.startswith("string") else "items"
        bound = (
            f"at most {context['max_length']:,}" if "max_length" in context else f"{context['min_length']:,} or more"
        )
        return {"field": field, "found": f"{len(value or ()):,} {unit} long", "expected": bound}
    message = str(error["msg"])
    expected = message.removeprefix("Input should be ").removeprefix("Value error, ")
    return {"field": field, "found": _shown(value), "expected": expected}


def _shown(value: object) -> str:
    """A value from a request, short and printable."""
    text = json.dumps(value, default=str)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _json_trouble(error: RequestValidationError) -> str:
    first = error.errors()[0]
    reason = (first.get("ctx") or {}).get("error", "cannot be read")
    return f"{reason} at character {first['loc'][-1]}"


def _in_words(error: HTTPException, request: Request) -> str:
    if isinstance(error, Problem):
        return str(error.detail)
    if error.status_code == 404:
        return f"There is no {request.url.path}; /openapi.json lists what there is."
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return f"{request.url.path} does not take {request.method}; use {allowed}."
    if error.status_code == 400:
        return "The body cannot be read; send a JSON object in UTF-8."
    return str(error.detail)
