"""A figure of drift: each distribution of the scored texts beside that of the model's validation split."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from unroll.evaluation.drift import Bins, DriftReport, Measure
from unroll.evaluation.plots import BLUE, ORANGE, finish, make_panels

BAR = 0.4


def drift_bars(report: DriftReport) -> Figure:
    """Two bars a bin, one panel a distribution. Needs a report with at least one distribution."""
    shown = [measure for measure in report.measures if measure.bins is not None]
    figure, panels = make_panels(len(shown), share_x=False)
    for axes, measure in zip(panels, shown, strict=True):
        bins = measure.bins
        assert bins is not None
        places = np.arange(len(bins.reference))
        axes.bar(places - BAR / 2, bins.reference, BAR, color=BLUE, label=f"validation ({report.reference_count:,})")
        axes.bar(places + BAR / 2, bins.found, BAR, color=ORANGE, hatch="//", label=f"scored ({report.count:,})")
        axes.set_xticks(places, _names(bins), fontsize=9)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        unit = "tokens" if measure.name == "length" else "probability"
        finish(axes, _title(measure), f"{measure.name} ({unit}, up to)", "share of the texts")
    return figure


def _title(measure: Measure) -> str:
    said = "drifted" if measure.drifted else "like validation"
    return (
        f"{measure.name}: {said}, stability index {measure.value:.3f}, bound {max(measure.bound, measure.chance):.2g}"
    )


def _names(bins: Bins) -> list[str]:
    return ["more" if upper is None else f"{upper:.3g}" for upper in bins.upper]
