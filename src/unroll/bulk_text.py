"""A running text, scored by a language model: the bits that each passage costs.

The text is read forward once, in constant memory; a restart skips what is scored already. Every passage is scored after
what stands before it, as in evaluation, so that the numbers do not depend on where a part begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unroll.bulk import DriftCheck, Pace, ScoredPart, score_in_parts
from unroll.bulk_input import file_stamp, require_unchanged
from unroll.bulk_output import ScoringFolder, ScoringJob
from unroll.data.text_files import iter_unix_lines
from unroll.data.vocabulary import Vocabulary
from unroll.errors import DataError, PredictionError
from unroll.files import sha256_of
from unroll.models.language_model import CharLanguageModel
from unroll.models.saved import SavedModel
from unroll.reference import NATS_PER_BIT, PASSAGE_CHARACTERS, passages_of, sum_passages
from unroll.sample_statistics import SampleStatistics, add_up
from unroll.scoring import WARM_UP, score_text

TEXT_ENDINGS = (".txt", ".text")
PART_PASSAGES = 2_000
"""Passages of a part: a million characters."""
BLOCK_PASSAGES = 500
"""Passages scored at a time."""


@dataclass(frozen=True)
class RunningText:
    """A plain text file in UTF-8; a byte-order mark is left out, and lines end in ``\\n``."""

    path: Path
    characters: int
    sha256: str
    """Of the file's bytes."""
    stamp: tuple[int, int] | None
    """The file's size and time of change (nanoseconds) before it was read."""

    @classmethod
    def open(cls, path: Path) -> RunningText:
        """Read a file once through, in constant memory. Raises DataError: missing, not UTF-8, binary, or empty."""
        stamp = file_stamp(path)
        characters = sum(len(piece) for piece in iter_unix_lines(path))
        if not characters:
            raise DataError(f"{path} is empty; expected a text.")
        return cls(path, characters, sha256_of(path), stamp)

    def pieces(self, first: int, size: int) -> Iterator[str]:
        """The text from a character on, ``size`` characters at a time; the last piece may be shorter."""
        held, to_skip = "", first
        for piece in iter_unix_lines(self.path):
            skipped = min(to_skip, len(piece))
            to_skip -= skipped
            held += piece[skipped:]
            while len(held) >= size:
                yield held[:size]
                held = held[size:]
        if held:
            yield held


def is_text_file(path: Path) -> bool:
    """Whether a file is taken for running text, by its ending."""
    return path.suffix.lower() in TEXT_ENDINGS


def score_passages(
    text: RunningText, saved: SavedModel, job: ScoringJob, output: ScoringFolder, drift: DriftCheck, overwrite: bool
) -> dict[str, Any]:
    """Score a text, see `unroll.bulk.score_in_parts`; returns the manifest.

    Each row is a passage of PASSAGE_CHARACTERS: ``start`` (its first character, from 0), ``characters``, ``text``,
    ``bits_per_char`` and ``unknown_characters``, those that the model's vocabulary lacks: each costs its `<unk>` and
    20 bits.
    """
    return score_in_parts(PassageScoring(text, saved), job, output, drift, overwrite)


class PassageScoring:
    """See `unroll.bulk.Scoring`."""

    unit = "passages"

    def __init__(self, text: RunningText, saved: SavedModel) -> None:
        """Raises PredictionError where the model is no language model."""
        if not isinstance(saved.model, CharLanguageModel):
            raise PredictionError(
                f"The model is of the project {saved.config.project}; scoring a running text needs a language model."
            )
        self.text = text
        self.saved = saved
        self.model = saved.model

    @property
    def name(self) -> str:
        """The input's file name."""
        return self.text.path.name

    @property
    def num_rows(self) -> int:
        """Passages of the text."""
        return -(-self.text.characters // PASSAGE_CHARACTERS)

    def check_unchanged(self) -> None:
        """Raise DataError where the file is not the one any more whose digest was taken."""
        require_unchanged(self.text.path, self.text.stamp)

    def score(self, first: int, job: ScoringJob, pace: Pace) -> Iterator[ScoredPart]:
        """The parts from a passage on."""
        tables, counted = list[pa.Table](), list[SampleStatistics]()
        done = first
        for block in self._blocks(first, job.part_rows):
            pace.check(done)
            table, statistics = self._score_block(*block, job.precision)
            tables.append(table)
            counted.append(statistics)
            pace.advance(table.num_rows)
            rows = sum(table.num_rows for table in tables)
            if rows == job.part_rows or done + rows == self.num_rows:
                yield ScoredPart(pa.concat_tables(tables).combine_chunks(), add_up(counted))
                done, tables, counted = done + rows, [], []

    def _blocks(self, first: int, part_rows: int) -> Iterator[tuple[int, str, str]]:
        """Where each block begins, what stands just before it, and its text; none reaches over a part's end.

        They are cut alike wherever one begins: a part's numbers depend on how its streams are cut, if by no more than
        rounding.
        """
        start = first * PASSAGE_CHARACTERS
        if start >= self.text.characters:
            return
        before = max(start - WARM_UP - 1, 0)
        pieces = self.text.pieces(before, PASSAGE_CHARACTERS)
        context, held = _take(pieces, "", start - before)
        sizes = cycle(min(BLOCK_PASSAGES, part_rows - row) for row in range(0, part_rows, BLOCK_PASSAGES))
        while start < self.text.characters:
            block, held = _take(pieces, held, next(sizes) * PASSAGE_CHARACTERS)
            if not block:  # the file was cut meanwhile, which `check_unchanged` or the count of rows will tell
                return
            yield start, context, block
            start, context = start + len(block), (context + block)[-WARM_UP - 1 :]

    def _score_block(self, start: int, context: str, block: str, precision: str) -> tuple[pa.Table, SampleStatistics]:
        encode = self.saved.encoder.encode
        # an encoder gives an empty text one <unk>; no context is none
        before = np.asarray(encode(context) if context else [], dtype=np.int64)
        token_ids = np.asarray(encode(block), dtype=np.int64)
        vocab_size = len(self.saved.encoder.vocabulary)
        nats = score_text(self.model, token_ids, before, self.saved.device, precision, vocab_size)
        characters = sum_passages(np.ones(len(block)))
        starts = range(0, len(block), PASSAGE_CHARACTERS)
        table = pa.table(
            {
                "start": pa.array([start + offset for offset in starts], pa.int64()),
                "characters": pa.array(characters.astype(np.int64)),
                "text": pa.array([block[offset : offset + PASSAGE_CHARACTERS] for offset in starts], pa.string()),
                "bits_per_char": pa.array(sum_passages(nats / NATS_PER_BIT) / characters),
                "unknown_characters": pa.array(
                    sum_passages((token_ids == Vocabulary.UNK_ID).astype(np.float64)).astype(np.int64)
                ),
            }
        )
        return table, passages_of(nats, token_ids)

    def summarise(self, output: ScoringFolder) -> dict[str, Any]:
        """Characters, those unknown among them, and bits per character of the whole text."""
        characters = unknown = 0
        bits = 0.0
        for path in output.parts():
            table = pq.read_table(
                path, columns=["characters", "bits_per_char", "unknown_characters"], partitioning=None
            )
            characters += pc.sum(table["characters"]).as_py()
            unknown += pc.sum(table["unknown_characters"]).as_py()
            bits += pc.sum(pc.multiply(table["characters"], table["bits_per_char"])).as_py()
        return {"characters": characters, "unknown_characters": unknown, "bits_per_char": bits / characters}


def _take(pieces: Iterator[str], held: str, size: int) -> tuple[str, str]:
    """The next ``size`` characters, of which ``held`` are the first, and what was read beyond them."""
    parts, length = [held], len(held)
    while length < size and (piece := next(pieces, "")):
        parts.append(piece)
        length += len(piece)
    text = "".join(parts)
    return text[:size], text[size:]
