"""Curves of a retraining: as Mermaid charts, which code hosting sites draw in comments, and as images for a page.

GitHub takes the address off an image whose data are in it (a ``data:`` URI), and a comment cannot bring a file along.
What it does draw, in comments and job summaries, is Mermaid; so does GitLab.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unroll.evaluation.markdown import inert
from unroll.retraining import Curve

POINTS = 24
"""Of a line in a chart."""
COLOURS = (("blue", "#0072B2"), ("orange", "#E69F00"))
"""Okabe and Ito's, as in `unroll.evaluation.plots`."""
NAMES = {
    "train/loss": "training loss (nats)",
    "validation/accuracy": "validation accuracy",
    "validation/bits_per_char": "validation bits per character",
}

Points = Sequence[Sequence[float]]


def thin(points: Points, most: int = 60) -> list[list[float]]:
    """At most so many points: means of as many neighbours each. Points that are no finite number are left out."""
    table = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    table = table[np.isfinite(table).all(axis=1)]
    if len(table) <= most:
        return table.tolist()
    return [part.mean(axis=0).tolist() for part in np.array_split(table, most)]


def mermaid(curve: Curve) -> list[str]:
    """A chart over the share of each training that is done, and a line that says which line is which.

    Mermaid spreads the points of every line over the whole axis, so trainings of different lengths share no axis of
    steps. No chart where a line has a single point.
    """
    tables = [np.asarray(points, dtype=np.float64) for points in curve.lines.values()]
    if not tables or min(map(len, tables)) < 2:
        return _in_words(curve)
    first = max(float(table[0, 0] / table[-1, 0]) for table in tables)
    lines = [_resampled(table, first) for table in tables]
    low, high = min(line.min() for line in lines), max(line.max() for line in lines)
    room = 0.05 * (high - low) or max(0.05 * abs(high), 1e-3)
    palette = ", ".join(colour for _, colour in COLOURS)
    return [
        _key(curve),
        "",
        "```mermaid",
        f"""%%{{init: {{"themeVariables": {{"xyChart": {{"plotColorPalette": "{palette}"}}}}}}}}%%""",
        "xychart-beta",
        f'    title "{_name(curve)}"',
        f'    x-axis "share of the training (%)" {100 * first:.0f} --> 100',
        f'    y-axis "{_name(curve)}" {low - room:.4g} --> {high + room:.4g}',
        *(f"    line [{', '.join(f'{value:.4g}' for value in line)}]" for line in lines),
        "```",
    ]


def image(curve: Curve) -> list[str]:
    """The curve drawn over steps, within the Markdown."""
    from unroll.evaluation.plots import CURVE_STYLES, STEP_AXIS, finish, make_panels

    figure, (axes,) = make_panels(1)
    for (name, points), (colour, dash) in zip(curve.lines.items(), CURVE_STYLES, strict=False):
        table = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        marker = "o" if len(table) <= 30 else ""
        axes.plot(table[:, 0], table[:, 1], color=colour, linestyle=dash, marker=marker, markersize=4, label=name)
    finish(axes, _name(curve), STEP_AXIS, _name(curve))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return [f"![{_name(curve)}]({_data_uri(buffer.getvalue())})"]


def image_of(path: Path) -> str:
    """A PNG file within the Markdown."""
    return f"![{inert(path.stem.replace('_', ' '))}]({_data_uri(path.read_bytes())})"


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _resampled(table: NDArray[np.float64], first: float) -> NDArray[np.float64]:
    """(POINTS,): values at even shares of the training, from ``first`` on."""
    shares = table[:, 0] / table[-1, 0]
    return np.interp(np.linspace(first, 1.0, POINTS), shares, table[:, 1])


def _key(curve: Curve) -> str:
    colours = [colour for colour, _ in COLOURS]
    lengths = [f"{name} in {colour} (to step {points[-1][0]:,.0f})" for colour, (name, points) in _zip(colours, curve)]
    return f"{_name(curve).capitalize()}: {', '.join(lengths)}."


def _zip(colours: Sequence[str], curve: Curve) -> list[tuple[str, tuple[str, list[list[float]]]]]:
    return list(zip(colours, curve.lines.items(), strict=False))


def _in_words(curve: Curve) -> list[str]:
    ends = [
        f"{name} {points[-1][1]:.4f} at step {points[-1][0]:,.0f}" for name, points in curve.lines.items() if points
    ]
    return [f"{_name(curve).capitalize()}: {', '.join(ends)}."] if ends else []


def _name(curve: Curve) -> str:
    return NAMES.get(curve.metric, curve.metric)
