"""The measured curves as a Markdown page: points, fitted exponents, and what makes them other than 1."""

from __future__ import annotations

from typing import Any

from benchmarks.growth.curves import CURVES
from benchmarks.growth.fit import exponent, fixed_part, step_exponents
from benchmarks.report import BUSY_CORES, number

Fields = dict[str, Any]
_SHOWN = {"steps": "steps", "tokens_per_second": "tokens/s"}


def to_markdown(results: Fields) -> str:
    """A whole page."""
    machine, curves = results["machine"], results["curves"]
    lines = [
        "# Growth",
        "",
        f"Made by `make growth` in {results['seconds'] / 60:.1f} minutes: {machine['cores']} cores, {machine['cpu']}, "
        f"PyTorch {machine['torch']} with {machine['threads']} threads, Python {machine['python']}; {results['date']}, "
        f"commit {results['commit']}. Edit the harness, not this page.",
        "",
        "Each point is a process of its own. Training is timed over a few steps (the column), and an epoch is their "
        "mean times the steps it has, not a measured epoch. The exponent is the slope of the line through the "
        "logarithms. Peak memory is the resident set of the whole process, its imports (PyTorch, where it trains) and "
        "the making of the data included; *own* leaves out the pages of files. Where CPU time lies far below the "
        "clock, the point waited: for other processes, or for the disk.",
    ]
    if results["quick"]:
        lines += ["", "**A run with `--quick`: tiny sizes, to see that everything runs. Its figures mean nothing.**"]
    lines += [
        "",
        "| curve | over | exponent of time | by CPU time | memory, smallest to largest |",
        "|---|---|---|---|---|",
    ]
    lines += [_summary(name, points) for name, points in curves.items()]
    for name, points in curves.items():
        lines += ["", f"## {CURVES[name].title}", "", f"![{CURVES[name].title}](growth-{name}.png)", ""]
        lines += [*_table(name, points), "", *_reasons(name, points)]
    return "\n".join(lines) + "\n"


def _summary(name: str, points: list[Fields]) -> str:
    sizes = _column(points, "size")
    memory = f"{number(points[0]['resident_mib'])} to {number(points[-1]['resident_mib'])} MiB"
    exponents = (exponent(sizes, _column(points, key)) for key in ("seconds", "cpu_seconds"))
    return (
        f"| {CURVES[name].title} | {CURVES[name].size_name} | {' | '.join(f'{k:.2f}' for k in exponents)} | {memory} |"
    )


def _table(name: str, points: list[Fields]) -> list[str]:
    curve = CURVES[name]
    more = [key for key in _SHOWN if key in points[0]]
    heads = [
        curve.size_name, f"seconds, {curve.time_name}", "CPU seconds", "exponent from the point before", "peak MiB",
        "own MiB", *(_SHOWN[key] for key in more),
    ]  # fmt: skip
    between = ["", *(f"{k:.2f}" for k in step_exponents(_column(points, "size"), _column(points, "seconds")))]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for point, local in zip(points, between, strict=True):
        own = point["anonymous_mib"]
        cells = [
            f"{point['size']:,}", number(point["seconds"]), number(point["cpu_seconds"]), local,
            number(point["resident_mib"]), "" if own is None else number(own), *(f"{point[key]:,.0f}" for key in more),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _reasons(name: str, points: list[Fields]) -> list[str]:
    lines = [f"Expected exponent: {CURVES[name].expected}.", _load(points)]
    if "flops" in points[0]:
        lines += [_products(points), _update(points)]
    elif "step_seconds" in points[0]:
        steps = ", ".join(f"{1e3 * point['step_seconds']:.0f}" for point in points)
        lines.append(f"Milliseconds of a step, which reads a batch whatever the corpus: {steps}.")
    if CURVES[name].has_fixed_part:
        lines.append(_fixed(points))
    return [f"- {line}" for line in lines]


def _load(points: list[Fields]) -> str:
    known = [point["elsewhere_cores"] for point in points if point["elsewhere_cores"] is not None]
    if not known:
        return "What other processes took is not known here."
    busy = "**busy machine**" if max(known) >= BUSY_CORES else "quiet machine"
    return f"{busy}: other processes took up to {max(known):.2f} cores during a point."


def _fixed(points: list[Fields]) -> str:
    sizes, values = _column(points, "size"), _column(points, "seconds")
    fixed = fixed_part(sizes, values)
    return (
        f"What does not grow, by the straight line through the two smallest points: {_seconds(fixed)}, "
        f"{fixed / values[0]:.0%} of the smallest point and {fixed / values[-1]:.0%} of the largest."
    )


def _products(points: list[Fields]) -> str:
    sizes = _column(points, "size")
    rates = " → ".join(number(point["flops"] / point["products_seconds"] / 1e9) for point in points)
    reached = " → ".join(number(point["flops"] / point["seconds"] / 1e9) for point in points)
    shares = " → ".join(f"{point['products_seconds'] / point['seconds']:.0%}" for point in points)
    operations, alone = (exponent(sizes, _column(points, key)) for key in ("flops", "products_seconds"))
    return (
        f"The step's matrix products: operations grow with exponent {operations:.2f}, the time they take alone with "
        f"{alone:.2f}, for their rate changes with the shapes ({rates} GFLOP/s; the whole step reaches {reached}). "
        f"They are {shares} of the step; the rest is element-wise work, look-ups, calls, and the update."
    )


def _update(points: list[Fields]) -> str:
    shares = " → ".join(f"{point['update_seconds'] / point['seconds']:.0%}" for point in points)
    return (
        f"Clipping and the optimizer alone, which do not depend on how many tokens a step reads: "
        f"{_seconds(points[0]['update_seconds'])} to {_seconds(points[-1]['update_seconds'])}, {shares} of a step."
    )


def _seconds(value: float) -> str:
    return f"{1e3 * value:.1f} ms" if abs(value) < 1 else f"{value:.1f} s"


def _column(points: list[Fields], key: str) -> list[float]:
    return [float(point[key]) for point in points]
