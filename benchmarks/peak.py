"""The most memory that a process held, as Linux tells it in /proc/self/status."""

from __future__ import annotations

import re
import resource
import sys
import threading
from pathlib import Path
from types import TracebackType

SECONDS_BETWEEN_LOOKS = 0.02
_STATUS = Path("/proc/self/status")


class PeakMemory:
    """Watches this process while the `with` block runs; read it afterwards. In MiB, None where the system is silent.

    resident: all pages in memory, those of mapped files among them, though the system may take these back at any
    moment; since the process began. anonymous: what the process allocated, looked at 50 times a second.
    """

    def __init__(self) -> None:
        self.anonymous: float | None = None
        self.resident: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        self.resident = _status("VmHWM") or _by_resource()

    def _watch(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_LOOKS):
            self._look()

    def _look(self) -> None:
        now = _status("RssAnon")
        if now is not None:
            self.anonymous = max(self.anonymous or 0.0, now)


def _status(name: str) -> float | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None


def _by_resource() -> float:
    # counts what the process was before exec as well, so it is the second choice
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
