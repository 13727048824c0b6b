"""Measures one point: ``python -m benchmarks.growth.point POINT``, started by `benchmarks.growth`. Prints JSON."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from benchmarks.growth.curves import CURVES, Point
from benchmarks.peak import PeakMemory


def main() -> int:
    """Measure the point that the command line describes."""
    point = Point.from_json(sys.argv[1])
    with PeakMemory() as peak:
        found: dict[str, Any] = importlib.import_module(CURVES[point.curve].module).measure(point)
    found |= {"resident_mib": peak.resident, "anonymous_mib": peak.anonymous}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
