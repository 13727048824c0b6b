"""Every text and character is read once per epoch, in an order that (seed, epoch) decides; or windows are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from unroll.data import batching
from unroll.data.batching import (
    LIKE_LENGTH,
    RandomWindows,
    StreamBatch,
    Streams,
    TextBatch,
    pad_batch,
    shuffled_buckets,
    token_budget_batches,
)
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


@given(
    size=st.integers(1, 300),
    batch_size=st.integers(1, 12),
    window=st.integers(1, 40),
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(0, 100),
    index=st.integers(0, 10_000),
)
def test_random_windows_are_pieces_of_the_text_from_places_of_their_own(
    size: int, batch_size: int, window: int, seed: int, epoch: int, index: int
) -> None:
    text = np.arange(size)
    if size < batch_size + window:
        with pytest.raises(DataError, match=f"has {size} characters, too few for {batch_size} windows of {window}"):
            RandomWindows(text, batch_size, window, seed)
        return
    batch = RandomWindows(text, batch_size, window, seed).batch(epoch, index)
    assert batch.inputs.shape == batch.targets.shape == (batch_size, window)
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64
    assert batch.num_tokens == batch.num_places == batch_size * window
    # a character's id is its place here: rows are contiguous, and targets are the characters after the inputs
    assert torch.equal(batch.inputs, batch.inputs[:, :1] + torch.arange(window))
    assert torch.equal(batch.targets, batch.inputs + 1)
    assert batch.inputs.min() >= 0
    assert batch.targets.max() < size
    assert len(set(batch.inputs[:, 0].tolist())) == batch_size


def test_a_text_too_short_for_random_windows_says_what_to_do() -> None:
    assert RandomWindows(np.arange(9), 4, 5, seed=0).batch(0, 0).inputs.shape == (4, 5)
    for size in (0, 1, 5, 8):
        with pytest.raises(DataError, match=r"longer text, or a smaller training\.batch_size or training\.window"):
            RandomWindows(np.arange(size), 4, 5, seed=0)


def starts_of(batch: StreamBatch) -> tuple[int, ...]:
    return tuple(batch.inputs[:, 0].tolist())


@given(seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 100), index=st.integers(0, 10_000))
def test_a_place_in_the_data_decides_which_random_windows_are_read(seed: int, epoch: int, index: int) -> None:
    text = np.arange(100_000)
    windows = RandomWindows(text, 4, 5, seed)
    drawn = starts_of(windows.batch(epoch, index))
    windows.batch(epoch + 1, index)
    assert starts_of(windows.batch(epoch, index)) == drawn, "whatever was read in between"
    assert starts_of(RandomWindows(text, 4, 5, seed).batch(epoch, index)) == drawn
    # four places among 100,000: two draws that agree are one draw
    others = [(seed, epoch, index + 1), (seed, epoch + 1, index), (seed + 1, epoch, index)]
    others += [key for key in ((seed, index, epoch), (epoch, seed, index)) if key != (seed, epoch, index)]
    assert drawn not in [starts_of(RandomWindows(text, 4, 5, one).batch(two, three)) for one, two, three in others]


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_every_place_is_as_likely_as_any_other_from_the_first_to_the_last(batch_size: int) -> None:
    windows, num_batches, num_places = RandomWindows(np.arange(10), batch_size, 3, seed=1), 1_500, 7
    starts = [start for index in range(num_batches) for start in starts_of(windows.batch(0, index))]
    counts = np.bincount(starts, minlength=num_places)
    assert len(counts) == num_places
    expected = num_batches * batch_size / num_places
    assert np.abs(counts - expected).max() < 4 * np.sqrt(expected)
    assert windows.batch(0, 0).targets.max() <= 9
    assert max(windows.batch(0, index).targets.max() for index in range(50)) == 9, "the last character is predicted"


@given(size=st.integers(1, 5_000), batch_size=st.integers(1, 12), window=st.integers(1, 40))
def test_a_pass_of_random_windows_predicts_about_as_many_characters_as_the_text_has(
    size: int, batch_size: int, window: int
) -> None:
    size += batch_size + window
    num_batches, of_a_batch = (
        RandomWindows(np.zeros(size, np.uint8), batch_size, window, 0).num_batches,
        batch_size * window,
    )
    assert (num_batches - 1) * of_a_batch < size - 1 <= num_batches * of_a_batch


def test_random_windows_are_read_from_a_file_of_small_numbers(tmp_path: Path) -> None:
    text = np.random.default_rng(0).integers(0, 200, 500).astype(np.uint8)
    np.save(tmp_path / "tokens.npy", text)
    mapped = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    batch = RandomWindows(mapped, 6, 20, seed=3).batch(1, 2)
    starts = starts_of(RandomWindows(np.arange(500), 6, 20, seed=3).batch(1, 2))
    assert batch.inputs.dtype == torch.int64
    assert batch.inputs.tolist() == [text[start : start + 20].tolist() for start in starts]
    assert batch.targets.tolist() == [text[start + 1 : start + 21].tolist() for start in starts]


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


def test_padding_is_zero_and_stands_on_the_right() -> None:
    batch = pad_batch([np.array([5, 6]), np.array([7])], torch.tensor([1, 0]))
    assert batch.token_ids.tolist() == [[5, 6], [7, 0]]
    assert batch.lengths.tolist() == [2, 1]
    assert (batch.num_tokens, batch.num_places) == (3, 4)
    assert batch.to(torch.device("cpu")).labels is not None


# batches by a budget of tokens


@given(lengths=lengths_lists, batch_tokens=st.integers(1, 400), batch_size=st.integers(1, 40))
def test_a_budget_is_kept_and_every_text_is_read_once(
    lengths: NDArray[np.int64], batch_tokens: int, batch_size: int
) -> None:
    batches = token_budget_batches(lengths, batch_tokens, batch_size, seed=1, epoch=0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for items in batches:
        longest = lengths[items].max()
        assert len(items) <= batch_size
        assert len(items) * longest <= batch_tokens or len(items) == 1
        assert longest <= LIKE_LENGTH * lengths[items].min()


@given(lengths=lengths_lists, epochs=st.lists(st.integers(0, 1_000), min_size=2, max_size=4))
def test_a_budget_makes_as_many_batches_in_every_epoch(lengths: NDArray[np.int64], epochs: list[int]) -> None:
    counts = {len(token_budget_batches(lengths, 200, 16, seed=1, epoch=epoch)) for epoch in epochs}
    assert len(counts) == 1


def test_a_budget_pads_less_than_a_twentieth_of_reviews_lengths() -> None:
    lengths = np.random.default_rng(1).lognormal(5.2, 0.7, 20_000).astype(np.int64) + 10
    batches = token_budget_batches(lengths, 8_000, 64, seed=1, epoch=0)
    places = sum(len(items) * int(lengths[items].max()) for items in batches)
    assert 1 - lengths.sum() / places < 0.05


def test_a_budgets_order_is_decided_by_seed_and_epoch() -> None:
    lengths = np.arange(1, 200)

    def order(seed: int, epoch: int) -> list[list[int]]:
        return [items.tolist() for items in token_budget_batches(lengths, 400, 8, seed, epoch)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


# shards of a batch


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12), number=st.integers(1, 15))
def test_shards_hold_every_row_once_and_are_padded_anew(lengths: list[int], number: int) -> None:
    batch = pad_batch([np.full(length, row + 1) for row, length in enumerate(lengths)], torch.arange(len(lengths)))
    shards = batch.shards(number)
    assert len(shards) == min(number, len(lengths))
    assert max(shard.num_rows for shard in shards) - min(shard.num_rows for shard in shards) <= 1
    seen = []
    for shard in shards:
        assert isinstance(shard, TextBatch)
        assert shard.labels is not None
        assert shard.token_ids.shape == (shard.num_rows, int(shard.lengths.max()))
        seen += [(int(label), int(length)) for label, length in zip(shard.labels, shard.lengths, strict=True)]
        for row, label in zip(shard.token_ids, shard.labels, strict=True):
            assert row.count_nonzero() == (row == label + 1).sum() == lengths[int(label)]
    assert sorted(seen) == list(enumerate(lengths))


def test_texts_without_labels_are_dealt_out_too() -> None:
    shards = pad_batch([np.array([1]), np.array([2, 3])]).shards(2)
    assert [shard.labels for shard in shards] == [None, None]


def test_windows_are_dealt_out_in_turn() -> None:
    batch = StreamBatch(torch.arange(10).view(5, 2), torch.arange(10, 20).view(5, 2))
    first, second = batch.shards(2)
    assert (batch.num_rows, first.num_rows, second.num_rows) == (5, 3, 2)
    assert torch.equal(first.inputs, batch.inputs[[0, 2, 4]])
    assert torch.equal(second.targets, batch.targets[[1, 3]])


# a text that is kept on the device


@pytest.fixture
def kept_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Play the GPU with what every machine has."""

    def keep(device: torch.device, token_ids: NDArray[np.integer]) -> torch.Tensor:
        return torch.from_numpy(np.array(token_ids if token_ids.dtype == np.uint8 else token_ids.astype(np.int32)))

    monkeypatch.setattr(batching, "_keep_on", keep)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("num_streams", [1, 3, 7])
def test_windows_of_a_kept_text_are_those_of_a_text_that_is_read(
    dtype: type, num_streams: int, request: pytest.FixtureRequest
) -> None:
    text = np.random.default_rng(1).integers(0, 200, 150).astype(dtype)
    read, drawn = Streams(text, num_streams), RandomWindows(text, num_streams, 9, seed=4)
    request.getfixturevalue("kept_on_the_cpu")
    kept, drawn_of_kept = Streams(text, num_streams), RandomWindows(text, num_streams, 9, seed=4)
    pairs = [(read.window(index, 8), kept.window(index, 8)) for index in range(read.num_windows(8))]
    pairs += [(drawn.batch(1, index), drawn_of_kept.batch(1, index)) for index in range(5)]
    for one, other in pairs:
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
        assert other.inputs.dtype == torch.int64


def test_a_text_too_large_for_the_device_is_read_window_by_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MOST_BYTES_ON_DEVICE", 10)
    assert batching._keep_on(torch.device("meta"), np.zeros(11, np.uint8)) is None
    assert batching._keep_on(torch.device("meta"), np.zeros(10, np.uint8)) is not None
    assert batching._keep_on(torch.device("cpu"), np.zeros(1, np.uint8)) is None
