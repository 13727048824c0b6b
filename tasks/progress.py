"""Progress of training as a Prefect artifact: a bar, with the log's newest line below it."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

logger = logging.getLogger("unroll.progress")

LEAST_PAUSE = 1.0
SHARE_BETWEEN_UPDATES = 0.01
"""Of the time so far."""
LONGEST_PAUSE = 30.0
"""Seconds between two updates, or two tries while the server does not answer."""
SECONDS_TO_CLOSE = 10.0


class ProgressArtifact:
    """Sent from a thread, once a second at first, so that training never waits for the server. Never raises.

    Prefect keeps an event of every update: the longer it has gone on, the rarer they become, down to one in each
    hundredth of the time so far, and one in half a minute.
    """

    def __init__(self, key: str, title: str) -> None:
        """``key`` is the artifact's, of lower-case letters, digits and dashes."""
        self._key = key
        self._title = title
        self._artifact_id: UUID | None = None
        self._newest: tuple[float, str] | None = None
        self._sent: tuple[float, str] | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._failed = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> ProgressArtifact:
        try:
            made = create_progress_artifact(0.0, self._key, f"{self._title}: begins")
            self._artifact_id = cast(UUID, made)  # outside an event loop it is no coroutine
        except Exception as error:
            logger.warning("no progress artifact: %s", error)
            return self
        # Prefect's settings are those of a context, which a thread does not have by itself
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._run,), name="prefect-progress", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        with self._changed:
            if kind is None:
                self._newest = (1.0, "done")
            elif self._newest is not None:
                self._newest = (self._newest[0], f"{self._newest[1]}; ended by {kind.__name__}")
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(SECONDS_TO_CLOSE)

    def update(self, share: float, line: str) -> None:
        """Take what is to be shown next; what was not sent by then is left out. ``share`` is 0 to 1."""
        with self._changed:
            self._newest = (share, line)
            self._changed.notify_all()

    def _run(self) -> None:
        started, pause = time.monotonic(), LEAST_PAUSE
        with get_client(sync_client=True) as client:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing or self._newest is not self._sent)
                    newest, is_last = self._newest, self._closing
                if newest is not None and newest is not self._sent:
                    arrived = self._send(client, *newest)
                    due = SHARE_BETWEEN_UPDATES * (time.monotonic() - started)
                    pause = min(max(due if arrived else 2 * pause, LEAST_PAUSE), LONGEST_PAUSE)
                    self._sent = newest
                if is_last:
                    return
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, timeout=pause)

    def _send(self, client: Any, share: float, line: str) -> bool:
        """Whether it arrived."""
        assert self._artifact_id is not None
        try:
            client.update_artifact(
                self._artifact_id, ArtifactUpdate(data=round(100 * share, 1), description=f"{self._title}: {line}")
            )
        except Exception as error:
            if not self._failed:
                logger.warning("Prefect does not answer (%s); training goes on, its progress is in the log", error)
            self._failed = True
            return False
        self._failed = False
        return True
