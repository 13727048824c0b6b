"""MLflow runs: found by what they compute, gone on with after a kill, closed with the truth about how they ended.

Everything goes through `MlflowClient` with explicit run ids. MLflow's active run belongs to one thread; relying on it
opens orphan runs in Prefect's task threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.owner import is_dead, owner_tags
from tasks.provenance import provenance
from tasks.run_table import experiment_tags
from tasks.tracked_run import ERROR_TAG, LONGEST_TAG, TrackedRun, reaching_mlflow
from unroll.config import CONFIG_CLASSES, AnyConfig, config_digest, flatten
from unroll.errors import InterruptedTraining

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = [
    "CHAPTER_EXPERIMENT",
    "PRESET_TAG",
    "RUN_KEY_TAG",
    "TrackedRun",
    "attach_run",
    "experiment_name",
    "open_keyed_run",
    "open_run",
    "reaching_mlflow",
    "sweep_dead_runs",
]

RUN_KEY_TAG = "unroll.run_key"
PRESET_TAG = "unroll.preset"
CHAPTER_EXPERIMENT = "unroll-chapter"
"""Where comparisons that belong to no project are recorded."""
LARGEST_PARAM_BATCH = 100


@contextmanager
def open_run(config: AnyConfig, run_key: str, tags: Mapping[str, str]) -> Iterator[TrackedRun]:
    """The MLflow run for what ``run_key`` names: the one there is, else a new one; RUNNING within the block.

    A command started again after a kill goes on in its run, and a finished command repeated reuses its run. Parameters
    are written once and never changed. After the block the run is FINISHED; FAILED after an exception; KILLED after an
    interruption. The tag ``unroll.preset`` in ``tags``, if given, begins the run's name.

    Raises RegistryError: MLflow cannot be reached.
    """
    settings = flatten(config.model_dump(mode="json"))
    with open_keyed_run(
        experiment_name(config.project), run_key, _run_name(config, tags), provenance(config) | dict(tags), settings
    ) as run:
        yield run


@contextmanager
def open_keyed_run(
    experiment: str, run_key: str, name: str, tags: Mapping[str, str], settings: Mapping[str, Any]
) -> Iterator[TrackedRun]:
    """The run of any experiment that ``run_key`` names, as `open_run` has it; ``settings`` are its parameters."""
    client = _client()
    with reaching_mlflow(client), _one_command_at_a_time(client.tracking_uri):
        experiment_id = _experiment(client, experiment)
        run = _find(client, experiment_id, run_key) or client.create_run(
            experiment_id, tags={RUN_KEY_TAG: run_key}, run_name=name
        )
        _begin(client, run, owner_tags() | dict(tags))
        _log_params(client, run, settings)
    tracked = TrackedRun(client, run.info.run_id, experiment_id)
    try:
        yield tracked
    except BaseException as error:
        was_stopped = isinstance(error, InterruptedTraining) or not isinstance(error, Exception)
        tracked.end("KILLED" if was_stopped else "FAILED", error)
        raise
    tracked.end("FINISHED")


def attach_run(run_id: str) -> TrackedRun:
    """A run that `open_run` opened elsewhere, such as in the flow around a task."""
    client = _client()
    with reaching_mlflow(client):
        run = client.get_run(run_id)
    return TrackedRun(client, run_id, run.info.experiment_id)


def sweep_dead_runs(except_key: str | None = None) -> list[str]:
    """Set runs that a dead process left RUNNING to KILLED; returns their ids.

    The run with ``except_key`` is left as it is: it is about to be gone on with.
    Raises RegistryError: MLflow cannot be reached.
    """
    client = _client()
    with reaching_mlflow(client):
        names = [*(experiment_name(project) for project in CONFIG_CLASSES), CHAPTER_EXPERIMENT]
        found = [client.get_experiment_by_name(name) for name in names]
        ids = [experiment.experiment_id for experiment in found if experiment]
        running = client.search_runs(ids, "attributes.status = 'RUNNING'") if ids else []
        one_machine = client.tracking_uri.startswith("sqlite:")
        dead = [
            run.info.run_id
            for run in running
            if run.data.tags.get(RUN_KEY_TAG) != except_key and is_dead(run.data.tags, one_machine=one_machine)
        ]
        for run_id in dead:
            client.set_terminated(run_id, "KILLED")
    return dead


def experiment_name(project: str) -> str:
    """The MLflow experiment of a project."""
    return f"unroll-{project.replace('_', '-')}"


def _client() -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient()


def _experiment(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # Another command may create it in this instant.
        with suppress(MlflowException):
            client.create_experiment(name, _artifact_location(client.tracking_uri, name))
        experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise MlflowException(f"the experiment {name} is deleted; restore it with `mlflow experiments restore`")
    for tag, value in experiment_tags(name, experiment.experiment_id).items():
        # what a person wrote stays
        if tag not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, tag, value)
    return str(experiment.experiment_id)


def _artifact_location(uri: str, name: str) -> str | None:
    """Beside an SQLite file; MLflow's own choice is a folder in the working folder of whoever comes first."""
    database = _sqlite_file(uri)
    return (database.parent / "mlartifacts" / name).as_uri() if database else None


def _sqlite_file(uri: str) -> Path | None:
    is_sqlite = uri.startswith("sqlite:///")
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]).absolute() if is_sqlite else None


@contextmanager
def _one_command_at_a_time(uri: str) -> Iterator[None]:
    """On an SQLite store, two commands that look for the same run at once must not both make it."""
    database = _sqlite_file(uri)
    if database is None:
        yield
        return
    from filelock import FileLock

    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_suffix(".lock"), timeout=120):
        yield


def _find(client: MlflowClient, experiment_id: str, run_key: str) -> Run | None:
    runs = client.search_runs([experiment_id], f"tags.`{RUN_KEY_TAG}` = '{run_key}'")
    return min(runs, key=lambda run: (run.info.start_time, run.info.run_id), default=None)


def _begin(client: MlflowClient, run: Run, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    run_id = run.info.run_id
    client.update_run(run_id, status="RUNNING")
    client.log_batch(run_id, tags=[RunTag(name, str(value)[:LONGEST_TAG]) for name, value in tags.items()])
    if ERROR_TAG in run.data.tags:
        client.delete_tag(run_id, ERROR_TAG)


def _log_params(client: MlflowClient, run: Run, settings: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    params = [Param(name, str(value)) for name, value in settings.items() if name not in run.data.params]
    for start in range(0, len(params), LARGEST_PARAM_BATCH):
        client.log_batch(run.info.run_id, params=params[start : start + LARGEST_PARAM_BATCH])


def _run_name(config: AnyConfig, tags: Mapping[str, str]) -> str:
    model = config.model
    both_ways = "bi" if model.bidirectional else ""
    what = tags.get(PRESET_TAG, config.project)
    return f"{what} {both_ways}{model.cell}-{model.hidden_size}x{model.num_layers} {config_digest(config)[:6]}"
