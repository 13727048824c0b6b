"""Energy that the machine's own counters say it took: Intel's and AMD's RAPL through powercap, NVIDIA's through NVML.

The counters are of whole packages and cards: what other processes did meanwhile is in them. Many systems let only the
administrator read RAPL, and virtual machines have none; then there is no reading, and nothing is estimated instead.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ENERGY_FILE = "energy.json"
POWERCAP = Path("/sys/class/powercap")
SAMPLE_SECONDS = 10.0
"""Shorter than any counter takes to wrap around: 65 kJ at 500 W are two minutes."""


@dataclass
class Energy:
    """Joules that were counted within a block, None where no counter can be read."""

    processor_joules: float | None = None
    gpu_joules: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Counter:
    """A counter in joules, which starts anew at ``range`` joules."""

    read: Callable[[], float]
    range: float


@contextmanager
def counting_energy() -> Iterator[Energy]:
    """What the counters say of the block, filled in when it ends."""
    energy = Energy()
    groups = {"processor_joules": processor_counters(), "gpu_joules": gpu_counters()}
    meters = {name: _Meter(counters) for name, counters in groups.items() if counters}
    started = time.perf_counter()
    done = threading.Event()
    thread = threading.Thread(target=_sample, args=(list(meters.values()), done), name="energy", daemon=True)
    thread.start()
    try:
        yield energy
    finally:
        done.set()
        thread.join()
        energy.seconds = time.perf_counter() - started
        for name, meter in meters.items():
            setattr(energy, name, meter.joules)


def processor_counters(powercap: Path = POWERCAP) -> list[Counter]:
    """One counter for each processor package that can be read; none where there is no such right, or no RAPL."""
    counters = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        if zone.name.count(":") > 1:  # a part of a package, counted in it
            continue
        with suppress(OSError, ValueError):
            energy = zone / "energy_uj"
            counter = Counter(
                lambda path=energy: int(path.read_text()) / 1e6,  # type: ignore[misc]
                int((zone / "max_energy_range_uj").read_text()) / 1e6,
            )
            counter.read()
            counters.append(counter)
    return counters


def gpu_counters() -> list[Counter]:
    """One counter for each NVIDIA card (Volta or later); none without the driver's library."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        count = ctypes.c_uint()
        if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return []
    except (OSError, AttributeError):
        return []
    counters = []
    for index in range(count.value):
        device = ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == 0:
            counter = Counter(lambda handle=device: _card_joules(nvml, handle), float("inf"))  # type: ignore[misc]
            with suppress(OSError):
                counter.read()
                counters.append(counter)
    return counters


def _card_joules(nvml: ctypes.CDLL, device: ctypes.c_void_p) -> float:
    millijoules = ctypes.c_ulonglong()
    if code := nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(millijoules)):
        raise OSError(f"NVML answers {code}")
    return millijoules.value / 1e3


class _Meter:
    """Adds up what some counters move on, over their turns."""

    def __init__(self, counters: list[Counter]) -> None:
        self.joules: float | None = 0.0
        self._counters = counters
        self._last = [counter.read() for counter in counters]

    def sample(self) -> None:
        if self.joules is None:
            return
        try:
            now = [counter.read() for counter in self._counters]
        except (OSError, ValueError):
            self.joules = None  # a sum with a hole in it says nothing
            return
        for counter, before, after in zip(self._counters, self._last, now, strict=True):
            self.joules += after - before if after >= before else counter.range - before + after
        self._last = now


def _sample(meters: list[_Meter], done: threading.Event) -> None:
    if not meters:
        return
    while not done.wait(SAMPLE_SECONDS):
        for meter in meters:
            meter.sample()
    for meter in meters:
        meter.sample()
