"""What a run was made from, kept in its MLflow run: so that a later run can tell what changed since."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.provenance import code_tags
from tasks.tracked_run import TrackedRun, reaching_mlflow
from unroll.config import AnyConfig
from unroll.errors import RegistryError
from unroll.retraining import Origin, origin_now

if TYPE_CHECKING:
    from mlflow import MlflowClient

CODE_TAG = "unroll.code_digest"
SOURCE_TAG = "unroll.source_digest"
MODULES = "code/modules.json"
"""Artifact of a run: SHA-256 of each of its modules."""
UNTOLD = ("unroll.git_dirty",)


def current_origin(config: AnyConfig) -> Origin:
    """What a run of these settings would be made from now."""
    return origin_now(config, {name: value for name, value in code_tags().items() if name not in UNTOLD})


def record_origin(run: TrackedRun, origin: Origin) -> None:
    """Keep the digests of data and code in a run; its settings and versions are kept already."""
    if run.tag(CODE_TAG) == origin.code:
        return
    run.log_text(json.dumps(origin.modules, indent=1), MODULES)
    run.set_tag(SOURCE_TAG, origin.data)
    run.set_tag(CODE_TAG, origin.code)


def read_origin(client: MlflowClient, run_id: str) -> Origin | None:
    """What a run was made from; None where MLflow itself says that the run is gone. Raises RegistryError otherwise."""
    from mlflow.exceptions import MlflowException

    with reaching_mlflow(client):
        try:
            data = client.get_run(run_id).data
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
    tags = data.tags
    libraries = {name: value for name, value in tags.items() if name.startswith(("version.", "mlflow.source.git."))}
    return Origin(
        settings=dict(data.params),
        data=tags.get(SOURCE_TAG),
        code=tags.get(CODE_TAG),
        modules=_modules(client, run_id) if CODE_TAG in tags else {},
        libraries=libraries,
    )


def _modules(client: MlflowClient, run_id: str) -> dict[str, str]:
    """Digests of a run's modules; none where the artifact is gone, which leaves unknown which of them changed."""
    try:
        with reaching_mlflow(client), tempfile.TemporaryDirectory() as scratch:
            modules: dict[str, str] = json.loads(
                Path(client.download_artifacts(run_id, MODULES, scratch)).read_text("utf-8")
            )
    except (RegistryError, ValueError):
        return {}
    return modules
