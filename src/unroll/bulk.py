"""Scoring a file of any size in parts that are published one by one, so that a killed run goes on where it was.

    OUTPUT/_job.json              what is scored, by which version, how; written first
           part-00000.parquet     the input's columns, the predictions, and which model made them
           …
           _manifest.json         written last: counts, and a digest of every part

Readers of Parquet folders (pandas, Arrow, Spark) pass over names that begin with an underscore or a dot.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unroll.bulk_input import TextTable, free_name
from unroll.bulk_output import JOB_KEY, ScoringFolder, ScoringJob
from unroll.data.progress import Progress
from unroll.errors import InterruptedScoring, StoreError
from unroll.files import sha256_of, writing
from unroll.prediction import SentimentPredictor
from unroll.training.stop import StopRequest

logger = logging.getLogger(__name__)

PART_ROWS = 10_000
BLOCK_ROWS = 1_000
"""Rows scored at a time: between two blocks progress is told and a request to stop is heeded."""


def score_table(
    texts: TextTable, predictor: SentimentPredictor, job: ScoringJob, output: ScoringFolder, overwrite: bool = False
) -> dict[str, Any]:
    """Score every row that is not scored yet, part by part; returns the manifest. The caller holds the folder's lock.

    Each part has the input's columns, ``label``, ``probability_<class>``, ``row`` (from 1), ``model_name``,
    ``model_version`` and ``model_digest`` (SHA-256 of the weights). Where the input has a column of that name, the new
    one is ``predicted_…`` or ``scoring_…``. A missing text is scored as an empty one and stays missing. On one machine,
    with one number of threads, the parts have the same bytes however often the job was stopped.

    Raises ConfigError: see `ScoringFolder.begin`. StoreError: the disk refuses. DataError: the input changed meanwhile.
    InterruptedScoring: SIGTERM or SIGINT came; whole parts stay.
    """
    started = time.perf_counter()
    with writing(output.folder):
        whole = output.begin(job, overwrite)
    if output.is_done:
        logger.info("%s: all %d parts are there; nothing to do", output.folder, whole)
        return output.manifest()
    first = min(whole * job.part_rows, texts.num_rows)
    if whole:
        logger.info("going on after %d whole parts (%s of %s rows)", whole, f"{first:,}", f"{texts.num_rows:,}")
    progress = Progress(f"scoring {texts.path.name}", texts.num_rows - first, "texts")
    with writing(output.folder), StopRequest() as stop:
        for number, part in enumerate(texts.parts(first, job.part_rows), whole):
            scored = _scored(part, texts, predictor, job, number * job.part_rows, progress, stop)
            texts.check_unchanged()
            output.publish(number, scored)
    with writing(output.folder):
        manifest = _manifest(texts, job, output)
        seconds = time.perf_counter() - started
        manifest["last_run"] = {"rows": texts.num_rows - first, "seconds": round(seconds, 3)}
        output.finish(manifest)
    return manifest


def _scored(
    part: pa.Table,
    texts: TextTable,
    predictor: SentimentPredictor,
    job: ScoringJob,
    first: int,
    progress: Progress,
    stop: StopRequest,
) -> pa.Table:
    """A part with its predictions beside it; ``first`` is the index of its first row."""
    blocks = []
    for start in range(0, part.num_rows, BLOCK_ROWS):
        if stop.requested:
            raise InterruptedScoring(
                f"Stopped by {stop.name}; {first:,} rows are scored and kept. The same command goes on from there.",
                stop.signal_number,
            )
        block = [text or "" for text in part[texts.text_column].slice(start, BLOCK_ROWS).to_pylist()]
        blocks.append(pa.Table.from_pandas(predictor.predict_table(block, job.precision), preserve_index=False))
        progress.advance(len(block))
    predictions = pa.concat_tables(blocks).combine_chunks()
    part = _beside(part, {name: predictions[name] for name in predictions.column_names}, "predicted_")
    rows = range(first + 1, first + part.num_rows + 1)
    origin = {"model_name": job.model_name, "model_version": job.model_version, "model_digest": job.weights_sha256}
    columns = {name: pa.repeat(pa.scalar(value, pa.string()), len(rows)) for name, value in origin.items()}
    part = _beside(part, {"row": pa.array(rows, pa.int64()), **columns}, "scoring_")
    return part.replace_schema_metadata({JOB_KEY: job.digest.encode()})


def _beside(table: pa.Table, columns: dict[str, Any], prefix: str) -> pa.Table:
    for name, column in columns.items():
        plain = column.cast(pa.string()) if pa.types.is_large_string(column.type) else column
        table = table.append_column(free_name(name, table.column_names, prefix), plain)
    return table


def _manifest(texts: TextTable, job: ScoringJob, output: ScoringFolder) -> dict[str, Any]:
    """Counts over all parts, read back from the disk one by one. Raises StoreError where rows are missing there."""
    label = free_name("label", texts.schema.names, "predicted_")
    labels, parts = Counter[str](), list[dict[str, Any]]()
    missing = empty = 0
    for path in output.parts():
        table = pq.read_table(path, columns=[texts.text_column, label], partitioning=None)
        column = table[texts.text_column]
        missing += column.null_count
        empty += sum(not text.strip() for text in column.drop_null().to_pylist())
        labels.update(table[label].to_pylist())
        parts.append({"name": path.name, "rows": table.num_rows, "sha256": sha256_of(path)})
    rows = sum(part["rows"] for part in parts)
    if rows != texts.num_rows:
        raise StoreError(
            f"{output.folder} holds {rows:,} rows of {texts.num_rows:,}: its files were changed meanwhile. Run again."
        )
    if missing or empty:
        logger.warning("%s missing and %s empty texts were scored as texts without words", f"{missing:,}", f"{empty:,}")
    return {
        "job": asdict(job),
        "input": texts.path.name,
        "rows": rows,
        "missing_texts": missing,
        "empty_texts": empty,
        "labels": dict(sorted(labels.items())),
        "parts": parts,
    }
