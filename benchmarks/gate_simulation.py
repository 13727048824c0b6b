"""``python -m benchmarks.gate_simulation``: how often the gate promotes by chance, and how often it sees a real gain.

Gates are simulated whose truth is known: models that are equal, that gain just the least gain, that lose just the
margin. Reviews: which of two classifiers is right, item by item, drawn with a given share of items on which they
differ. Text: losses of two language models, whose differences hang together over hundreds of characters and have long
tails, as those of trained models have (see `TextLosses`). The gate's own tests judge them.

Writes gate.json into benchmarks/results, and the figures of docs/gate.md into docs/images/gate. Ten minutes on one
core.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from unroll.evaluation.comparison import POWER
from unroll.evaluation.language_modeling import NATS_PER_BIT
from unroll.evaluation.paired_tests import (
    NUM_BLOCKS,
    BlockTest,
    block_test_power,
    paired_difference_p,
    paired_difference_power,
    paired_items_needed,
)

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gate.json"
FIGURES = ROOT / "docs" / "images" / "gate"

BOOTSTRAP_SAMPLES = 1_000
"""Fewer than the gate's 10,000, for speed; the p-value is exact to 1 / 1,001 all the same."""
BURN_IN = 2_000
MEASURED = 20_000
"""Characters of the texts over which the spread of a mean is measured; it falls with the root of their number."""


@dataclass(frozen=True)
class Reviews:
    """Two classifiers on test items that are drawn anew in each gate."""

    num_items: int = 2_000
    discordant_rate: float = 0.10
    """Share of the items that one gets right and the other wrong."""
    difference: float = 0.0
    """True gain in accuracy, a fraction."""

    def promotions(self, num_gates: int, bar: float, alpha: float, seed: int) -> int:
        """In how many of the gates the challenger is shown to be above the bar."""
        win, loss = ((self.discordant_rate + sign * self.difference) / 2 for sign in (1, -1))
        generator = np.random.default_rng(seed)
        drawn = generator.multinomial(self.num_items, [win, loss, 1 - win - loss], size=num_gates)[:, :2]
        counts, repeats = np.unique(drawn, axis=0, return_counts=True)
        passed = [
            paired_difference_p(int(gained), int(lost), self.num_items, bar, alpha) <= alpha for gained, lost in counts
        ]
        return int(repeats[passed].sum())

    def power(self, bar: float, alpha: float) -> float:
        """As computed."""
        return paired_difference_power(self.num_items, self.discordant_rate, self.difference, bar, alpha)

    def items_needed(self, bar: float, alpha: float) -> int:
        """What a gate that measured the true difference would ask for."""
        needed = paired_items_needed(self.discordant_rate, self.difference, bar, alpha, POWER)
        assert needed is not None
        return needed


@dataclass(frozen=True)
class TextLosses:
    """Two language models on a text that is drawn anew in each gate.

    A character's surprise belongs to the text and is shared. Each model multiplies it by a factor of mean 1:
    log-normal, of a part that lasts for some hundreds of characters (an autoregression) and a part of its own for each
    character. The variance of a mean over 1,000 characters is 3.6 times, over 4,000 3.9 times, what independent
    characters would give; that of a network against the count model on a novel 3.7 and 8 times.
    """

    num_characters: int = 30_000
    saving: float = 0.0
    """True, in bits per character."""
    memory: float = 0.99
    """Of the lasting part, from one character to the next: it halves in 69."""
    lasting: float = 0.07
    """Standard deviation of the lasting part of a factor's logarithm."""
    own: float = 0.25
    """Standard deviation of the other part; the challenger's is half as large again, which skews the differences."""

    def saved_bits(self, generator: np.random.Generator) -> NDArray[np.float64]:
        """(N,) what the challenger saves at each character."""
        surprise = generator.gamma(0.55, 1.8, size=self.num_characters)
        champion, challenger = (self._factor(own, generator) for own in (self.own, 1.5 * self.own))
        return np.asarray(surprise * (champion - challenger) / NATS_PER_BIT + self.saving)

    def promotions(self, num_gates: int, bar: float, alpha: float, seed: int) -> int:
        """In how many of the gates the challenger is shown to be above the bar."""
        generator = np.random.default_rng(seed)
        passed = 0
        for gate in range(num_gates):
            blocks = BlockTest.of(self.saved_bits(generator), BOOTSTRAP_SAMPLES, seed=gate)
            passed += blocks.p_above(bar) <= alpha
        return int(passed)

    def power(self, bar: float, alpha: float) -> float:
        """As computed, from the spread of the mean over many texts."""
        shift = (self.saving - bar) / self._spread()
        return block_test_power(shift, NUM_BLOCKS, alpha)

    def items_needed(self, bar: float, alpha: float) -> int:
        """What a gate that measured the true saving and the true spread would ask for."""
        measured = BlockTest(self.saving, self._spread(), np.zeros(1), self.num_characters, NUM_BLOCKS)
        needed = measured.values_needed(bar, alpha, POWER)
        assert needed is not None
        return needed

    def _spread(self) -> float:
        return _spread(replace(self, saving=0.0, num_characters=MEASURED)) * (MEASURED / self.num_characters) ** 0.5

    def _factor(self, own: float, generator: np.random.Generator) -> NDArray[np.float64]:
        from scipy.signal import lfilter

        shocks = generator.normal(size=self.num_characters + BURN_IN) * self.lasting * (1 - self.memory**2) ** 0.5
        lasting = lfilter([1.0], [1.0, -self.memory], shocks)[BURN_IN:]
        logarithm = lasting + own * generator.normal(size=self.num_characters)
        return np.asarray(np.exp(logarithm - (self.lasting**2 + own**2) / 2))


@cache
def _spread(losses: TextLosses, num_texts: int = 4_000) -> float:
    """Standard deviation of the mean saving over many texts."""
    generator = np.random.default_rng(0)
    return float(np.std([losses.saved_bits(generator).mean() for _ in range(num_texts)]))


Truth = Reviews | TextLosses


@dataclass(frozen=True)
class Row:
    """Gates of one truth. expected: alpha where the truth is at the bar, else the power as computed."""

    kind: str
    case: str
    num_items: int
    truth: float
    bar: float
    alpha: float
    gates: int
    promoted: int
    share: float
    standard_error: float
    """Of the share, were the expected one true."""
    expected: float


def simulate(case: str, truth: Truth, bar: float, gates: int, seed: int, alpha: float = 0.05) -> Row:
    """Let the gate's test judge as many simulated pairs."""
    is_text = isinstance(truth, TextLosses)
    true = truth.saving if isinstance(truth, TextLosses) else truth.difference
    expected = alpha if true == bar else truth.power(bar, alpha)
    promoted = truth.promotions(gates, bar, alpha, seed)
    return Row(
        kind="text" if is_text else "reviews",
        case=case,
        num_items=truth.num_characters if isinstance(truth, TextLosses) else truth.num_items,
        truth=true,
        bar=bar,
        alpha=alpha,
        gates=gates,
        promoted=promoted,
        share=promoted / gates,
        standard_error=(expected * (1 - expected) / gates) ** 0.5,
        expected=expected,
    )


def false_promotions(gates: int = 2_000, seed: int = 1) -> Iterator[Row]:
    """Truths that must not be promoted: each lies at its bar."""
    for number, (bar, case) in enumerate(((0.0, "equal"), (0.01, "minimum gain"), (-0.01, "non-inferiority margin"))):
        yield simulate(case, Reviews(difference=bar), bar, gates, seed + 10 * number)
        yield simulate(case, TextLosses(saving=bar), bar, gates, seed + 10 * number)


def power_curves(gates: int = 300, seed: int = 2) -> Iterator[Row]:
    """Real gains of several sizes, against a bar of 0 and a least gain."""
    for bar, case in ((0.0, "better"), (0.01, "better by more than 0.01")):
        for excess in (0.005, 0.01, 0.015, 0.02, 0.03):
            yield simulate(case, Reviews(difference=bar + excess), bar, gates, (seed := seed + 10))
        for excess in (0.01, 0.02, 0.03, 0.045):
            yield simulate(case, TextLosses(saving=bar + excess), bar, gates, (seed := seed + 10))


def power_where_asked(gates: int = 300, seed: int = 3) -> Iterator[Row]:
    """On as many items as *held* asks for."""
    for bar in (0.0, 0.01, -0.01):
        for truth in (
            Reviews(difference=max(bar, 0.0) + 0.01),
            TextLosses(saving=max(bar, 0.0) + (0.03 if bar >= 0 else 0.02)),
        ):
            needed = truth.items_needed(bar, alpha=0.05)
            enough = (
                replace(truth, num_characters=needed)
                if isinstance(truth, TextLosses)
                else replace(truth, num_items=needed)
            )
            yield simulate("as many as asked for", enough, bar, gates, (seed := seed + 10))


def main() -> int:
    """Simulate everything, write the figures and the JSON, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="the JSON file")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of the figures")
    arguments = parser.parse_args()
    started = perf_counter()
    rows: dict[str, list[Row]] = {}
    for name, made in (
        ("false_promotions", false_promotions()),
        ("power", power_curves()),
        ("as_many_as_asked_for", power_where_asked()),
    ):
        rows[name] = []
        for row in made:
            rows[name].append(row)
            print(f"{perf_counter() - started:6.1f} s  {_line(row)}", file=sys.stderr)
    draw(rows, arguments.figures)
    plain = {name: [asdict(row) for row in of_name] for name, of_name in rows.items()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    print("\n".join(to_markdown(rows["false_promotions"] + rows["as_many_as_asked_for"])))
    return 0


def to_markdown(rows: Sequence[Row]) -> Iterator[str]:
    """A table of the rows."""
    yield "| | case | items | truth | bar | gates | promoted | expected |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row.kind} | {row.case} | {row.num_items:,} | {row.truth:+g} | {row.bar:+g} | {row.gates:,} | "
            f"{row.share:.4f} | {row.expected:.3f} ± {row.standard_error:.3f} |"
        )


def draw(rows: dict[str, list[Row]], folder: Path) -> None:
    """The three figures of docs/gate.md."""
    from unroll.evaluation import plots

    folder.mkdir(parents=True, exist_ok=True)
    figure, panels = plots.make_panels(1)
    cases = list(dict.fromkeys(row.case for row in rows["false_promotions"]))
    for kind, color, marker, shift in (("reviews", plots.BLUE, "o", -0.08), ("text", plots.ORANGE, "s", 0.08)):
        of_kind = [row for row in rows["false_promotions"] if row.kind == kind]
        places = [cases.index(row.case) + shift for row in of_kind]
        shares, margins = zip(*((row.share, 1.96 * row.standard_error) for row in of_kind), strict=True)
        panels[0].errorbar(places, shares, margins, fmt=marker, color=color, capsize=4, label=kind)
    panels[0].axhline(0.05, color=plots.GREY, linestyle="--", label="alpha")
    panels[0].set_xticks(range(len(cases)), cases)
    panels[0].set_ylim(0, 0.08)
    plots.finish(panels[0], "Promotions of models at the bar", "the truth lies at", "share of 2,000 gates")
    plots.save(figure, folder / "false_promotions.png")

    for kind, axis in (("reviews", "true gain in accuracy"), ("text", "true saving (bits per character)")):
        figure, panels = plots.make_panels(1)
        for case, color, dash in (("better", plots.BLUE, "-"), ("better by more than 0.01", plots.ORANGE, "--")):
            of_case = [row for row in rows["power"] if (row.kind, row.case) == (kind, case)]
            truths, margins = [row.truth for row in of_case], [1.96 * row.standard_error for row in of_case]
            panels[0].plot(truths, [row.expected for row in of_case], dash, color=color, label=f"{case}: computed")
            panels[0].errorbar(
                truths, [row.share for row in of_case], margins, fmt="o", color=color, label="simulated, ± 1.96 errors"
            )
        panels[0].set_ylim(0, 1.02)
        plots.finish(panels[0], f"Power: {kind}, {of_case[0].num_items:,} items", axis, "share of gates that promote")
        plots.save(figure, folder / f"power_{kind}.png")


def _line(row: Row) -> str:
    return (
        f"{row.kind:8} {row.case:26} n={row.num_items:,} truth={row.truth:+g} bar={row.bar:+g}: "
        f"{row.promoted}/{row.gates} = {row.share:.4f}, expected {row.expected:.4f} ± {row.standard_error:.4f}"
    )


if __name__ == "__main__":
    sys.exit(main())
