"""One character a call: a language model unrolled by hand, for sampling.

`nn.LSTM` on a window of one step spends most of its time on getting ready. Here the embedding, the first layer's input
product and its biases are folded into one table with a row for each character. So a step of a layer is one look-up, one
product with W_hh and a few element-wise operations, in memory that is set aside once. On a CPU it is NumPy that takes
them: its calls cost a fraction of PyTorch's, and its product of one row with a matrix is faster.

Of a sigmoid only tanh is taken: σ(x) = (1 + tanh(x / 2)) / 2, with the halving folded into the weights, which is exact.
So one call serves all gates. The same as the model's own forward pass to rounding.

In bfloat16 the products of the layers are PyTorch's, from two texts on twice as fast as NumPy's where the processor
multiplies such numbers; state, gates and the output layer stay as they are. One text alone is faster in float32.

Dimensions: B texts, V vocabulary, H hidden units, G gates of a cell (4 for an LSTM, 3 for a GRU, 1 for a simple RNN).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unroll.models.cells import layer_parameters
from unroll.models.language_model import CharLanguageModel
from unroll.models.recurrent import LayerState

State = tuple[LayerState, ...]
Array = NDArray[np.floating[Any]]
Ids = NDArray[np.int64]
Product = Callable[[Array, Array], object]
"""Writes rows (B, I) times a weight into its second argument (B, O)."""


class Stepper(ABC):
    """Some texts, read one character a call."""

    @abstractmethod
    def step(self, token_ids: Ids) -> Array:
        """Read one more character of each text. token_ids: (B,).

        Returns logits (B, V), in memory that the next call writes over.
        """

    @abstractmethod
    def keep(self, places: list[int]) -> None:
        """Go on with some of the texts, by their place among those that are left."""

    @abstractmethod
    def state(self) -> State:
        """Where the texts stand, as `SteppingModel.begin` takes it; the next step may write over it."""


class SteppingModel:
    """A language model's weights, folded for reading one character a call. Dropout is off.

    The weights are those of the moment it is made; after they have changed, make another.
    """

    def __init__(self, model: CharLanguageModel, precision: str = "float32") -> None:
        """Fold what does not depend on the text. On a GPU, and with an output recurrence, the model reads itself.

        precision: of the products, "float32" (that of the weights) or "bfloat16"; the model itself knows no other.
        """
        self._model = model
        layers = list(model.recurrent.forward_layers)
        self._weights: list[_LayerWeights] = []
        if model.embedding.weight.device.type != "cpu" or not all(isinstance(layer, nn.RNNBase) for layer in layers):
            return
        for layer in layers:
            assert isinstance(layer, nn.RNNBase)
            table = None if self._weights else model.embedding.weight.detach()
            self._weights.append(_fold(layer, table, in_bfloat16=precision == "bfloat16"))
        self._output = _transposed(model.output.weight)
        self._output_bias = _to_array(model.output.bias)

    def begin(self, state: State) -> Stepper:
        """Go on from a state as the model's forward returns it; it is copied."""
        if not self._weights:
            return _ModelStepper(self._model, state)
        cells = [
            _CELLS[weights.kind](weights, [_to_array(part[0]).copy() for part in layer])
            for weights, layer in zip(self._weights, state, strict=True)
        ]
        return _ArrayStepper(cells, self._output, self._output_bias)


class _ModelStepper(Stepper):
    """The model's own forward pass, a window of one step a call."""

    def __init__(self, model: CharLanguageModel, state: State) -> None:
        self._model, self._state = model, state
        self._device = model.embedding.weight.device

    @torch.inference_mode()
    def step(self, token_ids: Ids) -> Array:
        logits, self._state = self._model(torch.from_numpy(token_ids).to(self._device).unsqueeze(1), self._state)
        return _to_array(logits[:, -1].double().cpu())

    def keep(self, places: list[int]) -> None:
        self._state = tuple(tuple(part[:, places] for part in layer) for layer in self._state)

    def state(self) -> State:
        return self._state


class _Matrix:
    """A weight (O, I) that rows are multiplied with, in its own precision or in bfloat16."""

    def __init__(self, weight: Tensor, *, in_bfloat16: bool) -> None:
        self._weight = weight.bfloat16() if in_bfloat16 else _transposed(weight)

    def product(self, num_rows: int) -> Product:
        """The product for so many rows, with memory of its own."""
        weight = self._weight
        if not isinstance(weight, Tensor):
            return lambda rows, out: np.dot(rows, weight, out=out)
        rounded = weight.new_empty(num_rows, weight.shape[1])
        product = weight.new_empty(num_rows, weight.shape[0])

        def multiply(rows: Array, out: Array) -> None:
            rounded.copy_(torch.from_numpy(rows))
            torch.mm(rounded, weight.T, out=product)
            torch.from_numpy(out).copy_(product)

        return multiply


class _LayerWeights(NamedTuple):
    """One recurrent layer. Its gates stand so that those with a sigmoid come first, their weights halved."""

    kind: str
    """LSTM, GRU, RNN_TANH or RNN_RELU, PyTorch's names."""
    table: Array | None
    """(V, G H): of the first layer, the gates of each character, biases and all."""
    inputs: _Matrix | None
    """(G H, H): of the layers above it."""
    bias_ih: Array
    """(G H,): of the input product. All of the bias, but for a GRU's candidate."""
    hidden: _Matrix
    """(G H, H)"""
    bias_hn: Array
    """(H,): a GRU's own for its candidate, within the reset gate's reach."""


class _Cell(ABC):
    """A layer at work: its state, and memory for a step."""

    num_gates: int

    def __init__(self, weights: _LayerWeights, state: list[Array]) -> None:
        """state: h, and of an LSTM C, (B, H) each, taken over."""
        self.weights = weights
        self._set_aside(state)

    def _set_aside(self, state: list[Array]) -> None:
        rows, size = state[0].shape
        self.state = state
        self.gates, self.of_input = (np.empty((rows, self.num_gates * size), state[0].dtype) for _ in range(2))
        self.spare = np.empty_like(state[0])
        self._hidden_product = self.weights.hidden.product(rows)
        self._input_product = None if self.weights.inputs is None else self.weights.inputs.product(rows)

    @property
    def h(self) -> Array:
        """(B, H): the layer's output."""
        return self.state[0]

    def part(self, gates: Array, index: int) -> Array:
        """The index-th gate, (B, H)."""
        size = self.h.shape[1]
        return gates[:, index * size : (index + 1) * size]

    def keep(self, places: list[int]) -> None:
        """Go on with some of the rows."""
        self._set_aside([part[places] for part in self.state])

    def read(self, inputs: Array | Ids) -> None:
        """One step. inputs: (B, E), or (B,) token ids for the table."""
        weights = self.weights
        if weights.table is not None:
            weights.table.take(inputs, axis=0, out=self.of_input, mode="clip")  # type: ignore[call-overload]
        elif self._input_product is not None:
            self._input_product(cast(Array, inputs), self.of_input)
            np.add(self.of_input, weights.bias_ih, out=self.of_input)
        self._hidden_product(self.h, self.gates)
        self.advance()

    @abstractmethod
    def advance(self) -> None:
        """Move the state on, from ``gates``, the product with the last h, and ``of_input``."""


class _LstmCell(_Cell):
    num_gates = 4

    def advance(self) -> None:
        h, c = self.state
        gates, spare = self.gates, self.spare
        np.add(gates, self.of_input, out=gates)
        np.tanh(gates, out=gates)
        _finish_sigmoid(gates[:, : 3 * h.shape[1]])
        np.multiply(c, self.part(gates, 1), out=c)
        np.multiply(self.part(gates, 0), self.part(gates, 3), out=spare)
        np.add(c, spare, out=c)
        np.tanh(c, out=h)
        np.multiply(h, self.part(gates, 2), out=h)


class _GruCell(_Cell):
    num_gates = 3

    def advance(self) -> None:
        (h,), gates, of_input = self.state, self.gates, self.of_input
        sigmoids, candidate = gates[:, : 2 * h.shape[1]], self.part(gates, 2)
        np.add(sigmoids, of_input[:, : 2 * h.shape[1]], out=sigmoids)
        np.tanh(sigmoids, out=sigmoids)
        _finish_sigmoid(sigmoids)
        np.add(candidate, self.weights.bias_hn, out=candidate)
        np.multiply(candidate, self.part(gates, 0), out=candidate)
        np.add(candidate, self.part(of_input, 2), out=candidate)
        np.tanh(candidate, out=candidate)
        np.subtract(h, candidate, out=h)
        np.multiply(h, self.part(gates, 1), out=h)
        np.add(h, candidate, out=h)


class _TanhCell(_Cell):
    num_gates = 1

    def advance(self) -> None:
        np.add(self.gates, self.of_input, out=self.h)
        np.tanh(self.h, out=self.h)


class _ReluCell(_Cell):
    num_gates = 1

    def advance(self) -> None:
        np.add(self.gates, self.of_input, out=self.h)
        np.maximum(self.h, 0, out=self.h)


_CELLS: dict[str, type[_Cell]] = {"LSTM": _LstmCell, "GRU": _GruCell, "RNN_TANH": _TanhCell, "RNN_RELU": _ReluCell}
_ORDER = {"LSTM": (0, 1, 3, 2), "GRU": (0, 1, 2)}
"""PyTorch's gates in our order: input, forget, output, candidate; reset, update, candidate."""


class _ArrayStepper(Stepper):
    """Cells one above the other, and the output layer."""

    def __init__(self, cells: list[_Cell], output: Array, output_bias: Array) -> None:
        """output: (H, V); output_bias: (V,)."""
        self._cells = cells
        self._output, self._output_bias = output, output_bias
        self._logits = np.empty((len(cells[0].h), output.shape[1]), output.dtype)

    def step(self, token_ids: Ids) -> Array:
        inputs: Array | Ids = token_ids
        for cell in self._cells:
            cell.read(inputs)
            inputs = cell.h
        np.dot(inputs, self._output, out=self._logits)
        np.add(self._logits, self._output_bias, out=self._logits)
        return self._logits

    def keep(self, places: list[int]) -> None:
        for cell in self._cells:
            cell.keep(places)
        self._logits = self._logits[: len(places)]

    def state(self) -> State:
        return tuple(tuple(torch.from_numpy(part).unsqueeze(0) for part in cell.state) for cell in self._cells)


def _finish_sigmoid(halves: Array) -> None:
    """From tanh(x / 2) to σ(x), in place."""
    np.multiply(halves, 0.5, out=halves)
    np.add(halves, 0.5, out=halves)


def _fold(layer: nn.RNNBase, embedding: Tensor | None, *, in_bfloat16: bool) -> _LayerWeights:
    """embedding: (V, E) of the first layer; None for one whose input is another layer's output."""
    kind = layer.mode
    weight_ih, weight_hh, bias_ih, bias_hh = (_stack(kind, part.detach()) for part in layer_parameters(layer))
    bias_hn = bias_hh[-layer.hidden_size :].clone()
    if kind == "GRU":
        bias_hh[-layer.hidden_size :] = 0.0
    bias = bias_ih + bias_hh
    return _LayerWeights(
        kind,
        None if embedding is None else _to_array(nn.functional.linear(embedding, weight_ih, bias)),
        _Matrix(weight_ih, in_bfloat16=in_bfloat16) if embedding is None else None,
        _to_array(bias),
        _Matrix(weight_hh, in_bfloat16=in_bfloat16),
        _to_array(bias_hn),
    )


def _stack(kind: str, parameter: Tensor) -> Tensor:
    """A copy whose gates stand in our order, those with a sigmoid halved."""
    if kind not in _ORDER:
        return parameter.clone()
    gates = parameter.chunk(len(_ORDER[kind]))
    ordered = [gates[index] for index in _ORDER[kind]]
    return torch.cat([0.5 * gate for gate in ordered[:-1]] + ordered[-1:])


def _transposed(weight: Tensor) -> Array:
    """(O, I) to (I, O), the layout in which one row times the matrix is fastest."""
    return np.ascontiguousarray(_to_array(weight).T)


def _to_array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().numpy()
    return array
