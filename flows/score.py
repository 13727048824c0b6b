"""The batch-scoring flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows.embedded import workplace
from flows.run_names import run_name
from tasks.admission import admission
from tasks.score import ScoringRequest, report_scores, score
from unroll.config import DriftConfig


def _name() -> str:
    return run_name("score", Path(str(flow_run.parameters.get("input_path", ""))).name)


@flow(name="score", flow_run_name=_name, log_prints=False)
def score_file(
    input_path: str,
    output_path: str,
    text_column: str = "text",
    model: str | None = None,
    precision: str = "float32",
    part_rows: int | None = None,
    overwrite: bool = False,
    drift: DriftConfig = DriftConfig(),  # noqa: B008 - frozen; the default of the form
) -> dict[str, Any] | State[Any]:
    """Write a file's rows with their scores and the model's version beside them; goes on where it was stopped.

    A table of reviews gets labels and probabilities, a running text (.txt) the bits that each passage costs. Where the
    input is past the bounds of ``drift``, the event ``unroll.drift`` is emitted. Returns the manifest.

    Args:
        input_path: CSV, JSON lines or Parquet with a text column, or a plain text file, where the worker can read it.
        output_path: Folder for the Parquet parts.
        text_column: Column that holds the text.
        model: Version number, alias, or name/version; the champion by default.
        precision: float32, bfloat16 or auto.
        part_rows: Rows of a part; without it as many as suit the kind of input.
        overwrite: Replace what another job left in the output.
        drift: How far the input may be from the training data.
    """
    request = ScoringRequest(input_path, output_path, text_column, model, precision, part_rows, overwrite, drift)
    with admission(workplace().runs, may_overlap=True) as refusal:
        if refusal:
            return refusal
        manifest: dict[str, Any] = score(request)
        report_scores(manifest)
        return manifest
