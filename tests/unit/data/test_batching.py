"""Every item and character is read once per epoch, in an order that (seed, epoch) decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unroll.data.batching import Streams, pad_batch, shuffled_buckets, sorted_batches
from unroll.errors import DataError

lengths_lists = st.lists(st.integers(1, 50), min_size=1, max_size=300).map(lambda x: np.array(x, np.int64))


@given(size=st.integers(2, 400), num_streams=st.integers(1, 12), window=st.integers(1, 60))
def test_each_character_is_predicted_once_from_the_one_before_it(size: int, num_streams: int, window: int) -> None:
    text = np.arange(size)
    if (size - 1) // num_streams < 1:
        with pytest.raises(DataError, match="too few for"):
            Streams(text, num_streams)
        return
    streams = Streams(text, num_streams)
    windows = [streams.window(index, window) for index in range(streams.num_windows(window))]
    assert all(batch.inputs.shape == batch.targets.shape for batch in windows)
    assert all(batch.inputs.size(1) == window for batch in windows[:-1])
    assert all(torch.equal(batch.inputs + 1, batch.targets) for batch in windows)
    targets = torch.cat([batch.targets for batch in windows], dim=1)
    # rows are the text in order; fewer than num_streams characters at its end are left out
    assert torch.equal(targets.flatten(), torch.arange(1, targets.numel() + 1))
    assert size - 1 - targets.numel() < num_streams


@given(size=st.integers(20, 200), num_streams=st.integers(1, 5), window=st.integers(1, 20))
def test_a_window_goes_on_where_the_one_before_it_ended(size: int, num_streams: int, window: int) -> None:
    streams = Streams(np.arange(size), num_streams)
    for index in range(1, streams.num_windows(window)):
        before, after = streams.window(index - 1, window), streams.window(index, window)
        assert torch.equal(before.targets[:, -1], after.inputs[:, 0])


@given(lengths=lengths_lists, batch_size=st.integers(1, 20), seed=st.integers(0, 2**31), epoch=st.integers(0, 9))
def test_an_epoch_reads_every_text_once(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> None:
    batches = shuffled_buckets(lengths, batch_size, seed, epoch)
    assert len(batches) == -(-len(lengths) // batch_size)
    assert max(len(batch) for batch in batches) <= batch_size
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    again = shuffled_buckets(lengths, batch_size, seed, epoch)
    assert all(np.array_equal(one, other) for one, other in zip(batches, again, strict=True))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    lengths = np.arange(1, 200)
    orders = {tuple(np.concatenate(shuffled_buckets(lengths, 8, *key))) for key in ((1, 0), (1, 1), (2, 0))}
    assert len(orders) == 3


def test_texts_of_like_length_share_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(1, 400, 3_000)
    batches = shuffled_buckets(lengths, 16, seed=1, epoch=0)
    places = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert lengths.sum() / places > 0.9


@given(lengths=lengths_lists, batch_size=st.integers(1, 20))
def test_scoring_reads_the_shortest_first_and_every_text_once(lengths: np.ndarray, batch_size: int) -> None:
    order = np.concatenate(sorted_batches(lengths, batch_size))
    assert sorted(order) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) >= 0).all()


def test_padding_is_zero_and_stands_on_the_right() -> None:
    batch = pad_batch([np.array([5, 6]), np.array([7])], torch.tensor([1, 0]))
    assert batch.token_ids.tolist() == [[5, 6], [7, 0]]
    assert batch.lengths.tolist() == [2, 1]
    assert (batch.num_tokens, batch.num_places) == (3, 4)
    assert batch.to(torch.device("cpu")).labels is not None
