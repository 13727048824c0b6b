"""A measured curve as a picture: time and memory over size, both axes logarithmic, with a line of slope 1."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmarks.growth.curves import Curve
from benchmarks.growth.fit import exponent
from unroll.evaluation.plots import BLUE, GREEN, GREY, ORANGE, finish, make_panels, save


def draw(curve: Curve, points: list[dict[str, Any]], path: Path) -> None:
    """Seconds above, MiB below."""
    figure, (time, memory) = make_panels(2)
    figure.set_size_inches(6.4, 7.4)
    sizes = [float(point["size"]) for point in points]
    seconds = [point["seconds"] for point in points]
    cpu_seconds = [point["cpu_seconds"] for point in points]
    label = f"wall clock: exponent {exponent(sizes, seconds):.2f}"
    cpu_label = f"CPU time, all cores: exponent {exponent(sizes, cpu_seconds):.2f}"
    time.plot(sizes, seconds, "o-", color=BLUE, label=label)
    time.plot(sizes, cpu_seconds, "s--", color=ORANGE, label=cpu_label)
    time.plot(sizes, [seconds[0] * size / sizes[0] for size in sizes], ":", color=GREY, label="slope 1")
    finish(time, curve.title, "", "\n".join(wrap(f"seconds: {curve.time_name}", 32)))
    memory.plot(sizes, [point["resident_mib"] for point in points], "o-", color=BLUE, label="resident")
    if all(point["anonymous_mib"] is not None for point in points):
        memory.plot(
            sizes, [point["anonymous_mib"] for point in points], "s--", color=GREEN, label="without files' pages"
        )
    first = points[0]["resident_mib"]
    low, high = memory.get_ylim()
    memory.plot(sizes, [first * size / sizes[0] for size in sizes], ":", color=GREY, label="slope 1")
    memory.set_ylim(min(low, first) / 2, 4 * high)
    finish(memory, "", curve.size_name, "peak memory (MiB)")
    for axes in (time, memory):
        _make_logarithmic(axes)
    memory.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    save(figure, path)


def _make_logarithmic(axes: Axes) -> None:
    limits = axes.get_ylim()
    axes.set_xscale("log")
    axes.set_yscale("log")
    if limits[0] > 0:
        axes.set_ylim(limits)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_locator(NullLocator())
