"""What ``unroll explain SECTION`` prints and draws: each section of the chapter, run and measured in a few seconds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from unroll.chapter import figures
from unroll.chapter.bptt import back_propagate, squared_loss
from unroll.chapter.gradient_flow import gradient_flow, one_unit_flow
from unroll.chapter.long_memory import Adding, MemorySettings
from unroll.chapter.remedies import MAX_GRADIENT_NORM, MAX_GRADIENT_VALUE, Remedy, Trial, run_trial
from unroll.chapter.sequence_tasks import SEQUENCE_TASKS, learn
from unroll.chapter.tables import table
from unroll.chapter.truncation import STEPS, adding_gradients, text_gradients
from unroll.chapter.worked_example import worked_example
from unroll.config import Cell
from unroll.models.cells import RNNWeights
from unroll.models.recurrent import Recurrent
from unroll.training.seed import seed_torch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Explanation:
    """A section's text and its figure."""

    lines: Sequence[str]
    figure: Figure = field(repr=False)


def forward() -> Explanation:
    """The worked example: three steps of an RNN, by hand and by PyTorch."""
    steps = list(worked_example())
    rows = [
        (f"{number}", f"{step.value:g}", _digits(step.hidden), _digits(step.by_hand), _digits(step.by_layer))
        for number, step in enumerate(steps)
    ]
    largest = max(float((step.by_hand - step.by_layer).abs().max()) for step in steps)
    lines = [
        "An RNN with two units reads three steps of five equal numbers (seed 1).",
        "hidden is W_xh x(t) + b_xh; output is tanh(hidden + W_hh o(t-1) + b_hh).",
        "",
        *table(("step", "input", "hidden", "output, by hand", "output, nn.RNN"), rows),
        "",
        f"By hand and by nn.RNN differ by {largest:.1g} at most.",
    ]
    return Explanation(lines, figures.worked_example(steps))


def bptt(num_steps: int = 20) -> Explanation:
    """Back-propagation through time by hand, as the sum over k, beside autograd."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    inputs, targets = draw(num_steps, 3), draw(num_steps, 2)
    weights = RNNWeights(draw(8, 3), 0.3 * draw(8, 8), draw(8))
    output_weights = draw(2, 8), draw(2)
    by_hand = back_propagate(inputs, targets, weights, *output_weights)
    leaves = RNNWeights(*(weight.clone().requires_grad_() for weight in weights))
    by_autograd = torch.autograd.grad(squared_loss(inputs, targets, leaves, *output_weights), leaves)

    rows = []
    for name, ours, theirs in zip(weights._fields, by_hand.gradients, by_autograd, strict=True):
        rows.append((name, f"{float(theirs.norm()):.6f}", f"{float((ours - theirs).abs().max()):.1e}"))
    last = by_hand.contributions[-1].flip(0)
    shares = last / last.sum()
    lines = [
        f"A simple RNN of 8 units, {num_steps} steps, squared error; float64.",
        "",
        *table(("gradient", "norm", "largest difference from autograd"), rows),
        "",
        f"Where the last step's gradient of W_hh comes from (share of the terms' norms, by t - k of {num_steps}):",
        *table(("t - k", "share"), [(str(k), f"{float(shares[k]):.2%}") for k in (0, 1, 2, 5, 10, num_steps - 1)]),
    ]
    return Explanation(lines, figures.contributions(by_hand.contributions))


def gradients(num_steps: int = 60) -> Explanation:
    """How the size of ∂h(t)/∂h(k) falls or grows with t - k, in new and in trained layers."""
    one_unit = {weight: one_unit_flow(weight, num_steps) for weight in (0.9, 1.0, 1.1)}
    new: dict[str, Tensor] = {}
    trained: dict[str, Tensor] = {}
    for name, cell in CELLS.items():
        logger.info("training a small %s to add two numbers", name)
        trial = Trial("adding", 40, Remedy(name, cell, "norm", learning_rate=1e-2), 300, 32, looks=1)
        problem = trial.make_problem()
        inputs = Adding(MemorySettings(num_steps), seed=2, batch_size=4, steps_per_epoch=1)
        sequences = next(inputs.batches(0, 0)).inputs
        seed_torch(trial.seed)
        _add_flow(new, name, Recurrent(2, trial.hidden_size, cell=cell), sequences)
        run_trial(trial, problem)
        _add_flow(trained, name, problem.model.get_submodule("recurrent"), sequences)

    shown = (1, 10, 30, num_steps - 1)
    rows = [(f"one linear unit, |w| = {w:g}", *_norms(flow, shown)) for w, flow in one_unit.items()]
    for state, flows in (("new", new), ("trained", trained)):
        rows += [(f"{name}, {state}", *_norms(flow, shown)) for name, flow in flows.items()]
    lines = [
        "The largest singular value of ∂h(t)/∂h(k) (of ∂C(t)/∂C(k) where it says C), median of four sequences.",
        "",
        *table(("", *(f"t - k = {distance}" for distance in shown)), rows),
        "",
        "Trained: 300 steps of adding two marked numbers in a list of 40; the gates began with a long memory.",
    ]
    titles = {"Layers with PyTorch's initial weights": new, "Layers trained to add two numbers, 40 steps": trained}
    return Explanation(lines, figures.gradient_flow(one_unit, titles))


def clipping() -> Explanation:
    """The same steps with and without clipping, where gradients explode: plain SGD and |w| = 1."""
    outcomes = {}
    for name, clip in (("not clipped", "none"), ("clipped by value", "value"), ("clipped by norm", "norm")):
        logger.info("training an RNN, %s", name)
        remedy = Remedy(name, clip=clip, optimizer="sgd", learning_rate=1e-2)
        outcomes[name] = run_trial(Trial("adding", 50, remedy, 300, 32, looks=1))
    rows = []
    for name, outcome in outcomes.items():
        losses = [point["train/loss"] for point in outcome.history if "train/loss" in point]
        means = ["not a number" if outcome.diverged else f"{fmean(losses[i : i + 50]):.3f}" for i in (100, 250)]
        rows.append((name, *means, f"{outcome.largest('train/gradient_norm'):,.0f}"))
    lines = [
        "A rectified RNN of 32 units, its recurrent matrix at first the identity, adds two numbers of a list of 50:",
        f"300 steps of SGD at 0.01. Thresholds: norm {MAX_GRADIENT_NORM:g}, value {MAX_GRADIENT_VALUE:g}.",
        "Saying 1 always has a loss of 0.167.",
        "",
        *table(("", "mean loss, steps 101-150", "251-300", "largest gradient norm"), rows),
    ]
    return Explanation(lines, figures.clipping(outcomes))


def truncation() -> Explanation:
    """The gradient of k steps beside the whole one, on running text and where a long memory is needed."""
    logger.info("a character language model on made prose")
    text = text_gradients()
    logger.info("an LSTM that adds two numbers of a list of %d", STEPS)
    adding = adding_gradients()
    rows = [
        (str(a.horizon), f"{a.cosine:.3f}", f"{a.norm_ratio:.0%}", f"{b.cosine:.3f}", f"{b.norm_ratio:.0%}")
        for a, b in zip(text, adding, strict=True)
    ]
    lines = [
        f"Sequences of {STEPS} steps, cut into windows; a gradient ends where its window begins.",
        "Beside the gradient of the recurrent weights without any cut: cosine of the angle, and size.",
        "",
        *table(("window", "text: cosine", "size", "adding: cosine", "size"), rows),
    ]
    curves = {"characters of made prose": text, "adding two numbers": adding}
    return Explanation(lines, figures.truncation(curves))


def tasks() -> Explanation:
    """One small task of each kind, each learned by the training loop of both projects."""
    learned = []
    for task in SEQUENCE_TASKS:
        logger.info("%s: %s", task.kind, task.example)
        learned.append(learn(task))
    rows = [
        (each.task.kind, each.task.example, str(each.task.steps), f"{each.accuracy:.2%}", f"{each.seconds:.1f} s")
        for each in learned
    ]
    lines = table(("kind", "task", "steps", "unseen items", "time"), rows)
    return Explanation(lines, figures.sequence_tasks(learned))


CELLS: dict[str, Cell] = {"RNN": "rnn_tanh", "LSTM": "lstm", "GRU": "gru"}

SECTIONS: dict[str, Callable[[], Explanation]] = {
    "forward": forward,
    "bptt": bptt,
    "gradients": gradients,
    "clipping": clipping,
    "truncation": truncation,
    "tasks": tasks,
}


def _add_flow(flows: dict[str, Tensor], name: str, layers: nn.Module, sequences: Tensor) -> None:
    layer = layers.get_submodule("forward_layers.0")
    assert isinstance(layer, nn.RNNBase)
    flow = gradient_flow(layer, sequences)
    flows[name] = flow.hidden
    if flow.cell is not None:
        flows[f"{name}, C"] = flow.cell


def _norms(flow: Tensor, distances: Iterable[int]) -> list[str]:
    return [f"{float(flow[distance]):.2g}" for distance in distances]


def _digits(values: Tensor) -> str:
    # the shortest digits that name the float32, as NumPy prints them in the book
    return "  ".join(f"{value!s:>11}" for value in values.numpy())
