"""The chapter's sketches, drawn from measurements. Style and colours are those of `unroll.evaluation.plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from torch import Tensor

from unroll.chapter.remedies import Outcome
from unroll.chapter.sequence_tasks import LearnedTask
from unroll.chapter.truncation import TruncatedGradient
from unroll.chapter.worked_example import WorkedStep
from unroll.evaluation.plots import BLUE, CURVE_STYLES, ORANGE, STEP_AXIS, finish, make_panels

DISTANCE_AXIS = "distance t − k (steps)"  # noqa: RUF001 - a minus sign, as in the text
SMALLEST_NORM = 1e-12
"""Norms below this are drawn at the foot of the picture."""


def worked_example(steps: Sequence[WorkedStep]) -> Figure:
    """What each unit gets from the input, and its output, at the example's three steps."""
    figure, (axes,) = make_panels(1)
    hidden, outputs = (torch.stack(values) for values in zip(*((s.hidden, s.by_layer) for s in steps), strict=True))
    for unit, colour in enumerate((BLUE, ORANGE)):
        axes.plot(hidden[:, unit], color=colour, linestyle=":", marker="s", label=f"unit {unit + 1}: input alone")
        axes.plot(outputs[:, unit], color=colour, marker="o", linewidth=2, label=f"unit {unit + 1}: after tanh")
    axes.set_xticks(range(len(steps)))
    finish(axes, "Three steps of an RNN with two units", "time step t", "activation (no unit)")
    return figure


def contributions(norms: Tensor) -> Figure:
    """The terms of the sum of back-propagation through time. norms: (T, T), of step k in column k to L(t) in row t."""
    figure, (axes,) = make_panels(1)
    table = np.where(norms.numpy() > 0, norms.numpy(), np.nan)
    edges = np.arange(len(table) + 1) + 0.5
    image = axes.pcolormesh(edges, edges, np.log10(table), cmap="cividis")
    figure.colorbar(image, ax=axes, label="log10 of the term's norm")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    finish(axes, "Where ∂L(t)/∂W_hh comes from", "step k that W_hh acts in", "step t of the loss L(t)")
    axes.grid(visible=False)
    return figure


def gradient_flow(one_unit: Mapping[float, Tensor], flows: Mapping[str, Mapping[str, Tensor]]) -> Figure:
    """|∂h(t)/∂h(k)| against t - k: of one linear unit by its weight, then of layers, a panel each."""
    figure, (first, *others) = make_panels(1 + len(flows))
    for (weight, flow), (colour, dash) in zip(one_unit.items(), CURVE_STYLES, strict=False):
        first.plot(flow, color=colour, linestyle=dash, linewidth=2, label=f"|w| = {weight:g}")
    _finish_flow(first, "One linear unit")
    for axes, (title, curves) in zip(others, flows.items(), strict=True):
        for (name, flow), (colour, dash) in zip(curves.items(), CURVE_STYLES, strict=False):
            axes.plot(flow.clamp_min(SMALLEST_NORM), color=colour, linestyle=dash, linewidth=2, label=name)
        _finish_flow(axes, title)
    return figure


def clipping(outcomes: Mapping[str, Outcome]) -> Figure:
    """Loss and gradient norm of one task under each way of training."""
    figure, (losses, norms) = make_panels(2)
    for (name, outcome), (colour, _) in zip(outcomes.items(), CURVE_STYLES, strict=False):
        label = f"{name} (diverged)" if outcome.diverged else name
        for axes, metric in ((losses, "train/loss"), (norms, "train/gradient_norm")):
            points = [(point["step"], point[metric]) for point in outcome.history if metric in point]
            steps, values = zip(*points, strict=True) if points else ((), ())
            # a run that diverged has a point or two
            axes.plot(steps, values, color=colour, marker="X" if outcome.diverged else "", linewidth=1, label=label)
    for axes in (losses, norms):
        axes.set_yscale("log")
    finish(losses, "Adding two numbers", "", "mean squared error")
    finish(norms, "", STEP_AXIS, "gradient norm before clipping")
    _one_legend(figure, losses, norms)
    return figure


def truncation(curves: Mapping[str, Sequence[TruncatedGradient]]) -> Figure:
    """How near a truncated gradient comes to the whole one, by the steps that it goes back."""
    figure, panes = make_panels(2)
    for (name, gradients), (colour, dash) in zip(curves.items(), CURVE_STYLES, strict=False):
        horizons = [gradient.horizon for gradient in gradients]
        for axes, values in zip(panes, ([g.cosine for g in gradients], [g.norm_ratio for g in gradients]), strict=True):
            axes.plot(horizons, values, color=colour, linestyle=dash, marker="o", linewidth=2, label=name)
    for axes in panes:
        axes.set_xscale("log")
        axes.set_xticks(horizons, [str(horizon) for horizon in horizons])
        axes.minorticks_off()
        axes.set_ylim(0, 1.05)
    finish(panes[0], "Direction", "", "cosine with the whole")
    finish(panes[1], "Size", "steps that the gradient goes back", "share of the whole norm")
    panes[1].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _one_legend(figure, *panes)
    return figure


def sequence_tasks(learned: Sequence[LearnedTask]) -> Figure:
    """Accuracy on unseen items over training, of each kind of task."""
    figure, (axes,) = make_panels(1)
    for each, (colour, dash) in zip(learned, CURVE_STYLES, strict=False):
        points = [(p["step"], p["validation/accuracy"]) for p in each.history if "validation/accuracy" in p]
        steps, accuracies = zip(*points, strict=True)
        axes.plot(steps, accuracies, color=colour, linestyle=dash, marker="o", markersize=4, label=each.task.kind)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    finish(axes, "Kinds of sequence task", STEP_AXIS, "right predictions on unseen items")
    return figure


def remedies(accuracies: Mapping[str, Mapping[int, float]], task: str) -> Figure:
    """Accuracy after the same number of steps against the length of the sequences, by remedy."""
    figure, (axes,) = make_panels(1)
    for (name, by_length), (colour, dash) in zip(accuracies.items(), CURVE_STYLES, strict=False):
        lengths, shares = list(by_length), list(by_length.values())
        axes.plot(lengths, shares, color=colour, linestyle=dash, marker="o", linewidth=2, label=name)
    axes.set_xscale("log")
    lengths = sorted({length for by_length in accuracies.values() for length in by_length})
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.minorticks_off()
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    finish(axes, f"Remedies on the {task} task", "length of the sequences (steps)", "right answers on unseen items")
    _one_legend(figure, axes)
    return figure


def _one_legend(figure: Figure, *panes: Axes) -> None:
    """One legend below the figure, where it covers no curve."""
    for axes in panes:
        if legend := axes.get_legend():
            legend.remove()
    handles, labels = panes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=11, frameon=False)


def _finish_flow(axes: Axes, title: str) -> None:
    axes.set_yscale("log")
    finish(axes, title, DISTANCE_AXIS, "norm of ∂h(t)/∂h(k)")
