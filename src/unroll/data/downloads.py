"""Downloads that are whole or an error: a stream to a file with its length checked, and retries with back-off."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from unroll.errors import DownloadError

if TYPE_CHECKING:
    import httpx

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

MAX_BYTES = 512 << 20
_TIMEOUT_SECONDS = 30.0


class TransientError(DownloadError):
    """The network failed in a way that may pass: no connection, a timeout, a cut body, a busy server."""


class AbsentError(DownloadError):
    """The server answered, and has no such file for us (HTTP 4xx)."""


@dataclass(frozen=True)
class Backoff:
    """How often a download is tried, and how long is waited between tries: exponential, with jitter."""

    tries: int = 4
    first_seconds: float = 1.0
    longest_seconds: float = 20.0


def with_retries(fetch: Callable[[], Result], what: str, backoff: Backoff) -> Result:
    """Call ``fetch`` until it gives a result, again only after a TransientError, which the last try lets rise."""
    from tenacity import (
        RetryCallState,
        Retrying,
        retry_if_exception_type,
        stop_after_attempt,
        wait_exponential,
        wait_random,
    )

    def announce(state: RetryCallState) -> None:
        reason = state.outcome.exception() if state.outcome else None
        waiting = state.next_action.sleep if state.next_action else 0.0
        logger.warning(
            "%s: try %d of %d failed (%s); again in %.1f s",
            what,
            state.attempt_number,
            backoff.tries,
            reason,
            waiting,
        )

    retrying = Retrying(
        stop=stop_after_attempt(backoff.tries),
        wait=wait_exponential(backoff.first_seconds, backoff.longest_seconds) + wait_random(0, backoff.first_seconds),
        retry=retry_if_exception_type(TransientError),
        before_sleep=announce,
        reraise=True,
    )
    return retrying(fetch)


def download(url: str, target: Path, backoff: Backoff, max_bytes: int = MAX_BYTES) -> None:
    """Stream a URL into a file, with retries. Raises AbsentError (4xx), TransientError after the last try."""
    with_retries(lambda: _download_once(url, target, max_bytes), url, backoff)


def reach(url: str, backoff: Backoff) -> None:
    """Ask a server for any answer at all, so that being offline is known in seconds. Raises TransientError."""
    import httpx

    def knock() -> None:
        try:
            httpx.head(url, timeout=_TIMEOUT_SECONDS)
        except httpx.HTTPError as error:
            raise TransientError(f"cannot reach {url}: {_reason(error)}") from error

    with_retries(knock, url, backoff)


def _download_once(url: str, target: Path, max_bytes: int) -> None:
    import httpx

    headers = {"User-Agent": "unroll (corpus download)"}
    try:
        with httpx.stream("GET", url, headers=headers, timeout=_TIMEOUT_SECONDS, follow_redirects=True) as response:
            _check_status(url, response)
            with target.open("wb") as file:
                for piece in response.iter_bytes():
                    file.write(piece)
                    if file.tell() > max_bytes:
                        raise DownloadError(f"{url} sent more than {max_bytes >> 20} MiB; expected a text.")
            _check_length(url, response)
    except httpx.HTTPError as error:
        raise TransientError(f"{url}: {_reason(error)}") from error


def _check_status(url: str, response: httpx.Response) -> None:
    status = response.status_code
    if status in (408, 425, 429) or status >= 500:
        raise TransientError(f"{url} answered HTTP {status}")
    if status != 200:
        raise AbsentError(f"{url} answered HTTP {status}")


def _check_length(url: str, response: httpx.Response) -> None:
    promised = response.headers.get("Content-Length")
    # bytes on the wire, since a compressed body's length is that of the compressed form
    if promised is not None and int(promised) != response.num_bytes_downloaded:
        raise TransientError(f"{url} broke off after {response.num_bytes_downloaded:,} of {int(promised):,} bytes")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
