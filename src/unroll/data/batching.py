"""From encoded arrays to batches: length buckets of texts, and parallel streams of characters.

    a text of 26 characters, 4 streams          windows of 3 steps, state carried from one to the next

        a b c d e f                                 [a b c] -> [d e f]
        g h i j k l        each row is a stream     [g h i] -> [j k l]
        m n o p q r        its targets are the      [m n o] -> [p q r]
        s t u v w x        same row moved by one    [s t u] -> [v w x]

Or windows anywhere in the text, drawn at random, each starting from a state of zeros.

Order is a pure function of (seed, epoch), so a place in the data is two numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unroll.data.encoded import EncodedSplit
from unroll.errors import DataError

IntArray = NDArray[np.int64]

CPU = torch.device("cpu")

MOST_BYTES_ON_DEVICE = 2**32
"""Size of the largest text that is kept on a GPU as a whole."""
LIKE_LENGTH = 1.06
"""Ratio of the longest to the shortest text that `token_budget_batches` takes for alike: some 3 % of padding."""


@dataclass(frozen=True)
class TextBatch:
    """Texts padded to the longest of them."""

    token_ids: Tensor
    """(B, T) int64, padded with 0."""
    lengths: Tensor
    """(B,) int64, 1 to T."""
    labels: Tensor | None
    """(B,) int64, or None where no label is known."""

    def to(self, device: torch.device) -> TextBatch:
        """The same batch on another device."""
        labels = None if self.labels is None else self.labels.to(device)
        return TextBatch(self.token_ids.to(device), self.lengths.to(device), labels)

    @property
    def num_rows(self) -> int:
        """Texts."""
        return len(self.lengths)

    def shards(self, number: int) -> list[TextBatch]:
        """The texts dealt out in turn to so many batches (one text each where there are fewer), padded anew."""
        return [self._rows(slice(first, None, number)) for first in range(min(number, self.num_rows))]

    def _rows(self, rows: slice) -> TextBatch:
        lengths = self.lengths[rows]
        token_ids = self.token_ids[rows, : int(lengths.max())].contiguous()
        return TextBatch(token_ids, lengths, None if self.labels is None else self.labels[rows])

    @property
    def num_tokens(self) -> int:
        """Tokens that are not padding."""
        return int(self.lengths.sum())

    @property
    def num_places(self) -> int:
        """Places in the batch, padding counted in."""
        return self.token_ids.numel()


@dataclass(frozen=True)
class PairBatch:
    """Inputs and what is to be said of them, without padding."""

    inputs: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        return type(self)(self.inputs.to(device), self.targets.to(device))

    @property
    def num_rows(self) -> int:
        """Sequences."""
        return len(self.inputs)

    def shards(self, number: int) -> list[Self]:
        """The sequences dealt out in turn to so many batches, or to one each where there are fewer."""
        return [
            type(self)(self.inputs[first::number], self.targets[first::number])
            for first in range(min(number, self.num_rows))
        ]

    @property
    def num_tokens(self) -> int:
        """Predictions asked for."""
        return self.targets.numel()

    @property
    def num_places(self) -> int:
        """As many: nothing is padded."""
        return self.targets.numel()


@dataclass(frozen=True)
class StreamBatch(PairBatch):
    """One window of every stream."""

    inputs: Tensor
    """(B, T) int64."""
    targets: Tensor
    """(B, T) int64: the character after each input."""


def shuffled_buckets(
    lengths: IntArray, batch_size: int, seed: int, epoch: int, bucket_batches: int = 50
) -> list[IntArray]:
    """Item indices of each batch of an epoch: every item once, texts of like length together, batches in random order.

    lengths: (N,). bucket_batches: batches sorted together, wide enough to leave little padding, narrow enough to keep
    the order random; with 1, what a batch holds does not depend on lengths. Returns ceil(N / batch_size) arrays of at
    most batch_size indices.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    bucket_size = batch_size * bucket_batches
    batches: list[IntArray] = []
    for start in range(0, len(order), bucket_size):
        bucket = order[start : start + bucket_size]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        batches.extend(bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size))
    return [batches[i] for i in generator.permutation(len(batches))]


def token_budget_batches(
    lengths: IntArray, batch_tokens: int, batch_size: int, seed: int, epoch: int
) -> list[IntArray]:
    """Item indices of each batch of an epoch: every item once, as many texts of like length as a budget takes.

    lengths: (N,), each 1 or more. batch_tokens: most places of a batch, padding counted in; a longer text stands alone.
    batch_size: most texts of a batch. Texts whose lengths are within `LIKE_LENGTH` of each other are shuffled together,
    then all batches are: so an epoch has the same number of batches each time, and little padding.
    """
    generator = np.random.default_rng([seed, epoch])
    by_length = np.argsort(lengths, kind="stable")
    in_order = lengths[by_length]
    batches: list[IntArray] = []
    start = 0
    while start < len(by_length):
        stop = int(np.searchsorted(in_order, in_order[start] * LIKE_LENGTH, side="right"))
        bucket = generator.permutation(by_length[start:stop])
        rows = min(max(batch_tokens // int(in_order[stop - 1]), 1), batch_size)
        batches.extend(bucket[i : i + rows] for i in range(0, len(bucket), rows))
        start = stop
    return [batches[i] for i in generator.permutation(len(batches))]


def collate(split: EncodedSplit, items: IntArray) -> TextBatch:
    """Read some items of a split into one padded batch."""
    labels = None if split.labels is None else torch.from_numpy(np.asarray(split.labels[items], dtype=np.int64))
    return pad_batch([np.asarray(split.item(int(item))) for item in items], labels)


def pad_batch(token_ids: list[NDArray[np.integer]], labels: Tensor | None = None) -> TextBatch:
    """Pad sequences of ids, each of length 1 or more, to the longest of them."""
    lengths = np.array([len(ids) for ids in token_ids], dtype=np.int64)
    padded = np.zeros((len(token_ids), int(lengths.max())), dtype=np.int64)
    for row, ids in enumerate(token_ids):
        padded[row, : len(ids)] = ids
    return TextBatch(torch.from_numpy(padded), torch.from_numpy(lengths), labels)


class Streams:
    """A text cut into parallel streams, read window by window; each character is predicted once per pass."""

    def __init__(self, token_ids: NDArray[np.integer], num_streams: int, device: torch.device = CPU) -> None:
        """token_ids: (N,), may be a memory map. device: where windows are wanted; on a GPU the whole text is kept.

        Raises DataError where N is too small for the streams.
        """
        self.stream_length = (len(token_ids) - 1) // num_streams
        if self.stream_length < 1:
            raise DataError(
                f"The split has {len(token_ids)} characters, too few for {num_streams} streams; "
                "give a longer text or a smaller training.batch_size."
            )
        size = num_streams * self.stream_length
        self._inputs = token_ids[:size].reshape(num_streams, self.stream_length)
        self._targets = token_ids[1 : size + 1].reshape(num_streams, self.stream_length)
        self._on_device = _keep_on(device, token_ids[: size + 1])

    def num_windows(self, window: int) -> int:
        """Windows of ``window`` steps in a pass; the last may be shorter."""
        return -(-self.stream_length // window)

    def window(self, index: int, window: int) -> StreamBatch:
        """The index-th window of every stream."""
        part = slice(index * window, (index + 1) * window)
        if self._on_device is not None:
            # overlapping views of one tensor: inputs begin at its start, targets one place later
            shape, strides = (len(self._inputs), self.stream_length), (self.stream_length, 1)
            inputs, targets = (self._on_device.as_strided(shape, strides, first)[:, part].long() for first in (0, 1))
            return StreamBatch(inputs, targets)
        arrays = (np.array(array[:, part], dtype=np.int64) for array in (self._inputs, self._targets))
        return StreamBatch(*(torch.from_numpy(array) for array in arrays))


class RandomWindows:
    """Windows that begin anywhere in a text, drawn without repetition within a batch: the chapter's way.

    Each batch is drawn from the whole text, so a pass reads some characters several times and others not at all.
    """

    def __init__(
        self,
        token_ids: NDArray[np.integer],
        batch_size: int,
        window: int,
        seed: int,
        device: torch.device = CPU,
    ) -> None:
        """token_ids: (N,), may be a memory map. device: as for `Streams`.

        Raises DataError where N has too few places for a batch's windows.
        """
        self._token_ids = token_ids
        self._batch_size = batch_size
        self._window = window
        self._seed = seed
        self._num_starts = len(token_ids) - window
        self._on_device = _keep_on(device, token_ids)
        if self._num_starts < batch_size:
            raise DataError(
                f"The split has {len(token_ids)} characters, too few for {batch_size} windows of {window}; "
                "give a longer text, or a smaller training.batch_size or training.window."
            )

    @property
    def num_batches(self) -> int:
        """Batches in which about as many characters are predicted as the text has."""
        return -(-(len(self._token_ids) - 1) // (self._batch_size * self._window))

    def batch(self, epoch: int, index: int) -> StreamBatch:
        """The index-th batch of a pass: (B, T) inputs and the characters after them."""
        generator = np.random.default_rng([self._seed, epoch, index])
        starts = generator.choice(self._num_starts, size=self._batch_size, replace=False)
        places = starts[:, np.newaxis] + np.arange(self._window + 1)
        if self._on_device is not None:
            windows = self._on_device[torch.from_numpy(places).to(self._on_device.device)].long()
        else:
            windows = torch.from_numpy(np.asarray(self._token_ids[places], dtype=np.int64))
        return StreamBatch(windows[:, :-1], windows[:, 1:])


def _keep_on(device: torch.device, token_ids: NDArray[np.integer]) -> Tensor | None:
    """The text on the device, (N,); None where it is read from memory or disk, window by window."""
    if device.type == "cpu" or token_ids.nbytes > MOST_BYTES_ON_DEVICE:
        return None
    # PyTorch has few operations for unsigned integers of more than a byte
    wide_enough = token_ids if token_ids.dtype == np.uint8 else token_ids.astype(np.int32)
    return torch.from_numpy(np.array(wide_enough)).to(device)
