"""The model that answers now, and how it is changed for another while requests go on.

A reloader thread asks the source, loads and warms up a new version beside the old one, and then replaces the slot's
`served` in one assignment. A request takes `served` once and keeps it to its end, so that none meets half a model and
none is lost; the old model goes when its last request has.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from unroll.errors import UnrollError
from unroll.serving.source import ModelSource, ServedVersion

logger = logging.getLogger(__name__)

ModelT = TypeVar("ModelT")


class NothingServed(Exception):  # noqa: N818 - a state of the server, not a fault of the request
    """There is no model yet that could answer; the message says why."""


@dataclass(frozen=True)
class Served(Generic[ModelT]):
    """A loaded model and its name."""

    version: ServedVersion
    model: ModelT


@dataclass(frozen=True)
class SlotState:
    """What the last look at the source brought."""

    checked: float | None = None
    """Seconds since 1970; None before the first look."""
    is_source_up: bool = True
    """Whether the source answered."""
    trouble: str | None = None
    """What keeps the source's version from being served, in words for anybody; the log has the details."""
    details: str | None = None
    """The error's own words. They may name addresses."""


class ModelSlot(Generic[ModelT]):
    """Holds one project's model. `served` and `state` are each replaced whole, so any thread may read them."""

    def __init__(self, project: str, source: ModelSource, load: Callable[[Path], ModelT]) -> None:
        """``load`` reads a model folder and warms the model up. Nothing is loaded yet."""
        self.project = project
        self.source = source
        self.served: Served[ModelT] | None = None
        self.state = SlotState()
        self.swaps = 0
        """Times that a served model was replaced by another."""
        self._load = load

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to wait for: a model is served, or the source says that there is none."""
        return self.served is not None or (self.state.checked is not None and self.state.trouble is None)

    def get(self) -> Served[ModelT]:
        """What is served now; a request asks once. Raises NothingServed where there is no model yet."""
        served = self.served
        if served is None:
            name, state = self.source.name, self.state
            if state.trouble:
                raise NothingServed(f"{name} cannot be served yet: {state.trouble}. Try again later.")
            if state.checked is None:
                raise NothingServed(f"{name} is being loaded. Try again in a moment.")
            project = self.project.replace("_", "-")
            raise NothingServed(f"{name} has no champion yet. Train one with 'unroll run {project}', then try again.")
        return served

    def refresh(self) -> None:
        """Look at the source once; load what it names where that is not served yet. Never raises."""
        version = None
        trouble = "the registry does not answer"
        try:
            version = self.source.current()
            if version is not None and (self.served is None or self.served.version != version):
                trouble = f"version {version.number} cannot be loaded"
                self._swap(version)
        except Exception as error:  # a thread that died here would leave an old model for ever, without a word
            details = str(error) if isinstance(error, UnrollError) else f"{type(error).__name__}: {error}"
            self._note_trouble(trouble, details, is_source_up=version is not None)
        else:
            self.state = SlotState(time.time())

    def _note_trouble(self, trouble: str, details: str, is_source_up: bool) -> None:
        if details != self.state.details:
            serving = f"version {self.served.version.number} goes on" if self.served else "nothing is served yet"
            logger.warning("%s: %s: %s (%s)", self.source.name, trouble, details, serving)
        self.state = SlotState(time.time(), is_source_up, trouble, details)

    def _swap(self, version: ServedVersion) -> None:
        started = time.perf_counter()
        with self.source.folder(version) as folder:
            model = self._load(folder)
        before, self.served = self.served, Served(version, model)
        if before is not None:
            self.swaps += 1
        logger.info("serving %s version %s (%.1f s)", version.name, version.number, time.perf_counter() - started)


class Reloader:
    """One thread that refreshes all slots in turn."""

    def __init__(self, slots: Sequence[ModelSlot[Any]], seconds_between: float) -> None:
        """Not started yet."""
        self._slots = slots
        self._seconds_between = seconds_between
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reloader", daemon=True)

    def start(self) -> None:
        """Begin with a first look at once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the look that is under way; does not wait for it."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            for slot in self._slots:
                slot.refresh()
            self._stopped.wait(self._seconds_between)
