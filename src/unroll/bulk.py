"""Scoring a file of any size in parts that are published one by one, so that a killed run goes on where it was.

    OUTPUT/_job.json              what is scored, by which version, how; written first
           part-00000.parquet     the input's columns, the predictions, and which model made them
           …
           _drift.json            whether the input is like what the model was validated on; _drift.png draws it
           _manifest.json         written last: counts, and a digest of every part

Readers of Parquet folders (pandas, Arrow, Spark) pass over names that begin with an underscore or a dot. What drift is
judged by is counted part by part and kept in the part's own metadata, so that it is whole whoever scored the parts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from unroll.bulk_input import free_name
from unroll.bulk_output import DRIFT_FILE, DRIFT_PLOT, JOB_KEY, STATISTICS_KEY, ScoringFolder, ScoringJob
from unroll.config import DriftConfig
from unroll.data.progress import Progress
from unroll.errors import InterruptedScoring, StoreError
from unroll.evaluation.drift import DriftReport, compare
from unroll.files import sha256_of, write_json, writing
from unroll.sample_statistics import SampleStatistics
from unroll.training.stop import StopRequest

logger = logging.getLogger(__name__)

PART_ROWS = 10_000
"""Texts of a part."""


class Pace:
    """Between two blocks of rows: progress is told, and a request to stop is heeded."""

    def __init__(self, progress: Progress, stop: StopRequest, unit: str) -> None:
        """``unit`` is what a row is, such as texts."""
        self._progress = progress
        self._stop = stop
        self._unit = unit

    def check(self, rows_kept: int) -> None:
        """Raise InterruptedScoring where the process was asked to stop; ``rows_kept`` are in whole parts."""
        if self._stop.requested:
            raise InterruptedScoring(
                f"Stopped by {self._stop.name}; {rows_kept:,} {self._unit} are scored and kept. The same command goes "
                "on from there.",
                self._stop.signal_number,
            )

    def advance(self, rows: int) -> None:
        """Count rows as scored."""
        self._progress.advance(rows)


@dataclass(frozen=True)
class ScoredPart:
    """The rows of a part with what a model says of them, and what was counted meanwhile."""

    table: pa.Table
    statistics: SampleStatistics


class Scoring(Protocol):
    """An input and the model that scores it: reviews in `unroll.bulk_reviews`, running text in `unroll.bulk_text`."""

    unit: str
    """What a row is, such as texts."""

    @property
    def name(self) -> str:
        """The input's file name."""

    @property
    def num_rows(self) -> int:
        """Rows of the input."""

    def check_unchanged(self) -> None:
        """Raise DataError where the input is not the file any more whose digest was taken."""

    def score(self, first: int, job: ScoringJob, pace: Pace) -> Iterator[ScoredPart]:
        """The parts from row index ``first`` on, which begins a part."""

    def summarise(self, output: ScoringFolder) -> dict[str, Any]:
        """What the manifest says of the rows of this kind, read back from the parts one by one."""


@dataclass(frozen=True)
class DriftCheck:
    """What drift is measured against, and who is told."""

    reference: SampleStatistics | None
    """The model's; None where it has none."""
    config: DriftConfig = field(default_factory=DriftConfig)
    tell: Callable[[DriftReport], None] = lambda report: None
    """Called where it drifted, before the job is noted as done: a job that is killed in between tells again."""


def score_in_parts(
    scoring: Scoring, job: ScoringJob, output: ScoringFolder, drift: DriftCheck, overwrite: bool = False
) -> dict[str, Any]:
    """Score every row that is not scored yet, part by part; returns the manifest. The caller holds the folder's lock.

    Each part has what `Scoring.score` gives and, beside it, ``row`` (from 1), ``model_name``, ``model_version`` and
    ``model_digest`` (SHA-256 of the weights). Where the input has a column of that name, the new one is ``scoring_…``.
    On one machine, with one number of threads, the parts have the same bytes however often the job was stopped.

    Raises ConfigError: see `ScoringFolder.begin`. StoreError: the disk refuses. DataError: the input changed meanwhile.
    InterruptedScoring: SIGTERM or SIGINT came; whole parts stay.
    """
    started = time.perf_counter()
    with writing(output.folder):
        whole = output.begin(job, overwrite)
    if output.is_done:
        logger.info("%s: all %d parts are there; nothing to do", output.folder, whole)
        return output.manifest()
    first = min(whole * job.part_rows, scoring.num_rows)
    if whole:
        logger.info(
            "going on after %d whole parts (%s of %s %s)", whole, f"{first:,}", f"{scoring.num_rows:,}", scoring.unit
        )
    progress = Progress(f"scoring {scoring.name}", scoring.num_rows - first, scoring.unit)
    with writing(output.folder), StopRequest() as stop:
        for number, part in enumerate(scoring.score(first, job, Pace(progress, stop, scoring.unit)), whole):
            scored = _with_origin(part, job, number * job.part_rows)
            scoring.check_unchanged()
            output.publish(number, scored)
    with writing(output.folder):
        manifest = _manifest(scoring, job, output)
        report = _judge_drift(output, drift)
        seconds = time.perf_counter() - started
        manifest["drift"] = {"verdict": report.verdict, "reason": report.reason}
        manifest["last_run"] = {"rows": scoring.num_rows - first, "seconds": round(seconds, 3)}
        output.finish(manifest)
    return manifest


def append_columns(table: pa.Table, columns: dict[str, Any], prefix: str) -> pa.Table:
    """Columns beside those of a table, each with the prefix where its name is taken."""
    for name, column in columns.items():
        plain = column.cast(pa.string()) if pa.types.is_large_string(column.type) else column
        table = table.append_column(free_name(name, table.column_names, prefix), plain)
    return table


def _with_origin(part: ScoredPart, job: ScoringJob, first: int) -> pa.Table:
    rows = range(first + 1, first + part.table.num_rows + 1)
    origin = {"model_name": job.model_name, "model_version": job.model_version, "model_digest": job.weights_sha256}
    columns = {name: pa.repeat(pa.scalar(value, pa.string()), len(rows)) for name, value in origin.items()}
    table = append_columns(part.table, {"row": pa.array(rows, pa.int64()), **columns}, "scoring_")
    metadata = {JOB_KEY: job.digest.encode(), STATISTICS_KEY: part.statistics.to_json()}
    return table.replace_schema_metadata(metadata)


def _manifest(scoring: Scoring, job: ScoringJob, output: ScoringFolder) -> dict[str, Any]:
    """Counts over all parts. Raises StoreError where rows are missing there."""
    parts = [
        {"name": path.name, "rows": pq.read_metadata(path).num_rows, "sha256": sha256_of(path)}
        for path in output.parts()
    ]
    rows = sum(int(str(part["rows"])) for part in parts)
    if rows != scoring.num_rows:
        raise StoreError(
            f"{output.folder} holds {rows:,} rows of {scoring.num_rows:,}: its files were changed meanwhile. Run again."
        )
    return {"job": asdict(job), "input": scoring.name, "rows": rows, **scoring.summarise(output), "parts": parts}


def _judge_drift(output: ScoringFolder, drift: DriftCheck) -> DriftReport:
    report = compare(drift.reference, output.statistics(), drift.config)
    logger.log(
        logging.WARNING if report.verdict == "drifted" else logging.INFO, "drift: %s; %s", report.verdict, report.reason
    )
    write_json(output.folder / DRIFT_FILE, report.to_dict() | {"settings": drift.config.model_dump()})
    if any(measure.bins for measure in report.measures):
        from unroll.evaluation.drift_plot import drift_bars  # matplotlib takes its time
        from unroll.evaluation.plots import save

        save(drift_bars(report), output.folder / DRIFT_PLOT)
    if report.verdict == "drifted":
        drift.tell(report)
    return report
