"""Bounds of a server, so that no request can take the machine from the others.

Those of a single request (texts, characters) are in `unroll.serving.schemas`, where OpenAPI shows them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServingSettings:
    """Limits and times of `unroll.serving.app.make_app`."""

    token: str | None = None
    """Bearer token that `/v1/…` and `/metrics` ask for; None asks for none."""
    max_body_bytes: int = 1 << 20
    """Largest request body."""
    max_requests: int = 256
    """Requests to `/v1/…` under way at a time; one more is answered 503."""
    max_waiting_texts: int = 2_048
    """Texts that wait for the classifier, of all requests."""
    max_waiting_explanations: int = 8
    """Requests that wait to be explained; one is explained at a time."""
    max_streams: int = 64
    """Texts in the making at a time, in one model."""
    seconds_between_looks: float = 5.0
    """From one look at the registry to the next."""
    seconds_to_send: float = 30.0
    """A client that sends nothing more of its body for so long is answered 408."""
    retry_after: int = 2
    """What `Retry-After` says with a 503, in seconds."""
