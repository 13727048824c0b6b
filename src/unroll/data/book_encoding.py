"""Reviews to the book's ids on disk, every text tokenised once, in threads.

    texts -> numbers of their tokens in the order of first sight, in a file -> vocabulary -> ids

The vocabulary is known only when all training texts were read; by then their numbers lie on disk, and the second pass
is a look-up in a table.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unroll.data.book_words import BookWords, truncate_flat
from unroll.data.encoders import BookEncoder, check_vocabulary
from unroll.data.progress import OnProgress, Progress
from unroll.data.threads import map_in_threads
from unroll.data.token_files import FlatChunk, token_dtype, write_tokens
from unroll.data.vocabulary import Vocabulary, rank_tokens

if TYPE_CHECKING:
    from unroll.config import WordEncodingConfig

CHARACTERS_PER_CHUNK = 1_500_000
CHARACTERS_OF_FIRST_CHUNK = 250_000
NUMBERS_PER_BLOCK = 500_000
PREFER_AGAIN = 3
"""The words learn anew which of them are frequent whenever so many times as many tokens were counted."""

TextsOfSplit = Callable[[str], Iterator[list[str]]]


def encode_book(
    texts: TextsOfSplit,
    num_texts: Mapping[str, int],
    config: WordEncodingConfig,
    folder: Path,
    on_progress: OnProgress | None = None,
) -> tuple[BookEncoder, dict[str, dict[str, float]]]:
    """Learn the vocabulary from the split "train", then write the encoder and every split's ids into the folder.

    texts: gives a split's texts in order, in chunks; read once. num_texts: of each split, for the progress. Returns the
    encoder and the statistics of each split. Raises DataError where "train" holds no token that could be kept.
    """
    words = BookWords()
    with ExitStack() as stack:
        numbered = {}
        for split in sorted(num_texts, key=lambda split: split != "train"):
            # The file has no name, and is gone with the process however that ends.
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            progress = Progress(f"tokenising {split}", num_texts[split], "reviews", on_progress)
            numbered[split] = _NumberedSplit(file, config.max_length)
            numbered[split].fill(words, _rechunk(texts(split)), progress, is_train=split == "train")
        tokens, counts = words.tokens, numbered["train"].counts
        ranked = rank_tokens(tokens[: len(counts)], counts, config.vocab_size, config.min_count)
        encoder = BookEncoder(Vocabulary.of_ranked(tokens, ranked), config.max_length)
        check_vocabulary(encoder.vocabulary, config.min_count)
        ids = np.full(len(tokens), Vocabulary.UNK_ID, token_dtype(len(encoder.vocabulary)))
        ids[ranked] = np.arange(2, len(encoder.vocabulary))
        saving = stack.enter_context(ThreadPoolExecutor(1)).submit(encoder.save, folder)
        statistics = {}
        for split in num_texts:
            progress = Progress(f"encoding {split}", numbered[split].num_tokens, "tokens", on_progress)
            chunks = numbered[split].look_up(ids, progress)
            statistics[split] = write_tokens(folder, split, chunks, len(encoder.vocabulary))
        saving.result()
    return encoder, statistics


class _NumberedSplit:
    """The tokens of a split by their numbers in BookWords, int32 in a file."""

    def __init__(self, file: IO[bytes], max_length: int | None) -> None:
        self.num_tokens = 0
        """In the file, so of the texts that were cut to max_length."""
        self.counts = np.zeros(1, np.int64)
        """Occurrences of each token in the training split, texts not cut; 0 for number 0."""
        self._file = file
        self._max_length = max_length
        self._lengths = [np.empty(0, np.int64)]

    def fill(self, words: BookWords, chunks: Iterator[list[str]], progress: Progress, is_train: bool) -> None:
        """Number the tokens of the texts; those of the training split are counted, and counted before the cut."""
        next_preference = 1
        # The first chunk alone: the others profit from the words that are frequent in it.
        for numbers, lengths in chain(map(words, islice(chunks, 1)), map_in_threads(words, chunks)):
            if is_train:
                self.counts = _add_counts(self.counts, numbers)
                if self.counts.sum() >= next_preference:
                    words.prefer(self.counts)
                    next_preference = PREFER_AGAIN * int(self.counts.sum())
            numbers, lengths = truncate_flat((numbers, lengths), self._max_length)
            self._file.write(numbers.data)
            self._lengths.append(lengths)
            self.num_tokens += len(numbers)
            progress.advance(len(lengths))

    def look_up(self, ids: NDArray[Any], progress: Progress) -> Iterator[FlatChunk]:
        """ids[number] of every number: the lengths of all texts, then the ids in blocks."""
        yield np.empty(0, ids.dtype), np.concatenate(self._lengths)
        self._file.seek(0)
        blocks = iter(lambda: self._file.read(4 * NUMBERS_PER_BLOCK), b"")
        for block in map_in_threads(lambda block: ids.take(np.frombuffer(block, np.int32)), blocks):
            yield block, np.empty(0, np.int64)
            progress.advance(len(block))


def _rechunk(chunks: Iterable[list[str]]) -> Iterator[list[str]]:
    """The texts in chunks of about as many characters, whatever size of chunk the reader likes."""
    most = CHARACTERS_OF_FIRST_CHUNK
    for chunk in chunks:
        start, size = 0, 0
        for end, text in enumerate(chunk, start=1):
            size += len(text)
            if size >= most or end == len(chunk):
                yield chunk[start:end]
                start, size, most = end, 0, CHARACTERS_PER_CHUNK


def _add_counts(counts: NDArray[np.int64], numbers: NDArray[np.int32]) -> NDArray[np.int64]:
    sums = np.bincount(numbers, minlength=len(counts))
    sums[: len(counts)] += counts
    sums[0] = 0
    return sums
