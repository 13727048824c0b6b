"""``unroll score``: the batch-scoring flow on a private Prefect server."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from flows.commands.early_checks import check_servers
from flows.commands.registry import open_registry
from flows.embedded import drain_history, prefect_server, workplace
from unroll.config import registered_name
from unroll.presets import make_config, make_drift_config

logger = logging.getLogger("unroll.score")


def score_in_parts(input_path: Path, output_path: Path, model: str | None, options: dict[str, Any]) -> None:
    """Run the flow; print where the parts are, how many, and by which version.

    options: the flow's other parameters; ``settings`` among them are overrides of its drift settings. Raises
    UnrollError, before anything is started or written where the input, the output's folder, the servers or the model
    do not do.
    """
    logger.info("unroll: scoring %s into %s", input_path, output_path)
    from unroll.bulk_output import ScoringFolder

    options["drift"] = make_drift_config(options.pop("settings"))
    is_text = _check_input(input_path, options["text_column"])
    ScoringFolder(output_path).check()
    check_servers("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
    project = "language_model" if is_text else "sentiment"
    open_registry().resolve(registered_name(make_config(project, {})), model)
    server = prefect_server(workplace())
    server.start()
    from flows.logs import quiet_libraries
    from flows.score import score_file

    quiet_libraries()
    with server:
        state = score_file(str(input_path), str(output_path), model=model, **options, return_state=True)
        if state.state_details.flow_run_id is not None:
            drain_history([state.state_details.flow_run_id])
        manifest: Any = state.result()
    _print(output_path, manifest)


def _check_input(path: Path, text_column: str) -> bool:
    """Whether the input is a running text. Raises DataError where it cannot be read as what it is."""
    from unroll.bulk_text import is_text_file
    from unroll.data.text_files import require_file

    if is_text_file(path):
        require_file(path)
        return True
    from unroll.bulk_input import check_texts

    check_texts(path, text_column)
    return False


def _print(output_path: Path, manifest: dict[str, Any]) -> None:
    job, drift = manifest["job"], manifest["drift"]
    if "labels" in manifest:
        found = ", ".join(f"{label} {count:,}" for label, count in manifest["labels"].items())
        rows = "rows"
    else:
        found = f"{manifest['bits_per_char']:.4f} bits per character"
        rows = "passages"
    print(f"{output_path}: {manifest['rows']:,} {rows} in {len(manifest['parts']):,} parts; {found}")
    print(f"by {job['model_name']} version {job['model_version']}, weights {job['weights_sha256'][:12]}")
    print(f"drift: {drift['verdict']}; {drift['reason']}")
