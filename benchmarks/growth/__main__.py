"""``make growth``: time and peak memory over the size of corpus, model and sequences, a process for each point.

A whole run writes growth.json, growth.md and growth-*.png into benchmarks/results; any other run only where --out
says. With UNROLL_MIRROR set the corpora are made of The Mysterious Island and IMDb, else of made ones. Progress goes to
stderr, the exponents to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.growth.curves import CURVES, Point
from benchmarks.growth.fit import exponent
from benchmarks.progress import Clock
from benchmarks.report import number
from benchmarks.run import RESULTS, describe_machine, find_commit

QUICK_SECONDS = 6.0
"""Of a curve with --quick."""


def main() -> int:
    """Measure the curves that were asked for; 1 where a point failed, 130 after Ctrl-C."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the child and drops the corpora, as Ctrl-C does
    names = arguments.only or list(CURVES)
    clock = Clock({name: QUICK_SECONDS if arguments.quick else CURVES[name].seconds for name in names}, "curve")
    started = perf_counter()
    curves: dict[str, list[dict[str, Any]]] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="unroll-growth-") as folder:
            for name in names:
                clock.begin(name)
                curves[name] = _measure(name, folder, arguments.quick, clock)
                clock.end(name)
    except KeyboardInterrupt:
        clock.say("stopped; nothing was written")
        return 130
    except subprocess.CalledProcessError as error:
        clock.say(f"a point's process ended with {error.returncode}; nothing was written")
        return 1
    results = {
        "date": date.today().isoformat(),
        "commit": find_commit(),
        "quick": arguments.quick,
        "real_corpora": _real_corpora(arguments.quick),
        "seconds": round(perf_counter() - started, 1),
        "machine": describe_machine(),
        "curves": curves,
    }
    folder = arguments.out or (None if arguments.quick or arguments.only else RESULTS)
    if folder is not None:
        _write(results, folder)
        clock.say(f"wrote growth.json, growth.md and the pictures into {os.path.relpath(folder)}")
    for name, points in curves.items():
        slope = exponent([point["size"] for point in points], [point["seconds"] for point in points])
        print(f"{name:18} {CURVES[name].time_name} over {CURVES[name].size_name}: exponent {slope:.2f}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", choices=list(CURVES), metavar="CURVE", help=f"{', '.join(CURVES)}; repeatable"
    )
    parser.add_argument("--quick", action="store_true", help="a minute on tiny made data: does everything run?")
    parser.add_argument("--out", type=Path, help="folder of the results")
    return parser.parse_args()


def _real_corpora(quick: bool) -> bool:
    return bool(os.environ.get("UNROLL_MIRROR")) and not quick


def _measure(name: str, folder: str, quick: bool, clock: Clock) -> list[dict[str, Any]]:
    sizes = CURVES[name].quick_sizes if quick else CURVES[name].sizes
    points = []
    for index, size in enumerate(sizes):
        point = _run(Point(name, size, folder, quick, _real_corpora(quick)))
        points.append(point)
        values = f"{point['size']:,}: {number(point['seconds'])} s, {number(point['resident_mib'])} MiB"
        clock.round_done(index + 1, len(sizes), values)
    return points


def _run(point: Point) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.growth.point", point.to_json()]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found


def _write(results: dict[str, Any], folder: Path) -> None:
    from benchmarks.growth.page import to_markdown
    from benchmarks.growth.plots import draw

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "growth.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "growth.md").write_text(to_markdown(results), encoding="utf-8")
    for name, points in results["curves"].items():
        draw(CURVES[name], points, folder / f"growth-{name}.png")


if __name__ == "__main__":
    sys.exit(main())
