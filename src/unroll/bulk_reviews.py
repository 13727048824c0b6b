"""A table of texts, scored by a classifier: labels and probabilities beside each row."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unroll.bulk import DriftCheck, Pace, ScoredPart, append_columns, score_in_parts
from unroll.bulk_input import TextTable, free_name
from unroll.bulk_output import ScoringFolder, ScoringJob
from unroll.prediction import SentimentPredictor
from unroll.reference import count_unknown
from unroll.sample_statistics import SampleStatistics, add_up, count_reviews

logger = logging.getLogger(__name__)

BLOCK_ROWS = 1_000
"""Rows scored at a time."""


def score_table(
    texts: TextTable,
    predictor: SentimentPredictor,
    job: ScoringJob,
    output: ScoringFolder,
    drift: DriftCheck,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Score a table, see `unroll.bulk.score_in_parts`; returns the manifest.

    Each part has the input's columns, ``label`` and ``probability_<class>``; where the input has a column of that name,
    the new one is ``predicted_…``. A missing text is scored as an empty one and stays missing.
    """
    return score_in_parts(ReviewScoring(texts, predictor), job, output, drift, overwrite)


class ReviewScoring:
    """See `unroll.bulk.Scoring`."""

    unit = "rows"

    def __init__(self, texts: TextTable, predictor: SentimentPredictor) -> None:
        """Nothing is read yet."""
        self.texts = texts
        self.predictor = predictor

    @property
    def name(self) -> str:
        """The input's file name."""
        return self.texts.path.name

    @property
    def num_rows(self) -> int:
        """Rows of the table."""
        return self.texts.num_rows

    def check_unchanged(self) -> None:
        """See `TextTable.check_unchanged`."""
        self.texts.check_unchanged()

    def score(self, first: int, job: ScoringJob, pace: Pace) -> Iterator[ScoredPart]:
        """The parts from a row on."""
        for number, part in enumerate(self.texts.parts(first, job.part_rows)):
            yield self._score_part(part, job, first + number * job.part_rows, pace)

    def _score_part(self, part: pa.Table, job: ScoringJob, first: int, pace: Pace) -> ScoredPart:
        blocks, counted = [], list[SampleStatistics]()
        for start in range(0, part.num_rows, BLOCK_ROWS):
            pace.check(first)
            block = [text or "" for text in part[self.texts.text_column].slice(start, BLOCK_ROWS).to_pylist()]
            encoded = self.predictor.encode(block)
            probs = self.predictor.predict_encoded(encoded, job.precision)
            blocks.append(pa.Table.from_pandas(self.predictor.tabulate(probs), preserve_index=False))
            counted.append(count_reviews(encoded.lengths, count_unknown(encoded), probs, self.predictor.class_names))
            pace.advance(len(block))
        predictions = pa.concat_tables(blocks).combine_chunks()
        columns = {name: predictions[name] for name in predictions.column_names}
        return ScoredPart(append_columns(part, columns, "predicted_"), add_up(counted))

    def summarise(self, output: ScoringFolder) -> dict[str, Any]:
        """How often each label was given, and how many texts are missing or empty."""
        label = free_name("label", self.texts.schema.names, "predicted_")
        labels = Counter[str]()
        missing = empty = 0
        for path in output.parts():
            table = pq.read_table(path, columns=[self.texts.text_column, label], partitioning=None)
            column = table[self.texts.text_column]
            missing += column.null_count
            empty += sum(not text.strip() for text in column.drop_null().to_pylist())
            labels.update(table[label].to_pylist())
        if missing or empty:
            logger.warning(
                "%s missing and %s empty texts were scored as texts without words", f"{missing:,}", f"{empty:,}"
            )
        return {"missing_texts": missing, "empty_texts": empty, "labels": dict(sorted(labels.items()))}
