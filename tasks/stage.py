"""One stage of a flow: look its key up in the store, run it on a miss, and say in the log which it was and why.

The store is the only cache. Prefect's own would keep a second record that outlives a removed or damaged artifact;
a skipped stage shows in Prefect as a state of that name, with the reason as its message.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import deployment
from prefect.states import Completed

from tasks.tracking import TrackedRun, attach_run
from unroll.errors import ConfigError, RegistryError
from unroll.stages import STAGES
from unroll.store import Artifact, StageKey, Store

logger = logging.getLogger("unroll.stage")

RETRY_DELAYS = [15.0, 60.0]
"""Seconds before a stage of a deployment is tried again, where that may help."""

Parameters = ParamSpec("Parameters")


@dataclass(frozen=True)
class StageContext:
    """What every stage of one flow run knows."""

    store_root: str
    tracking_uri: str
    run_id: str
    """The MLflow run."""
    from_stage: str | None = None
    """This stage and those after it are run even where the store has their artifact."""

    @property
    def store(self) -> Store:
        """The artifacts."""
        return Store(Path(self.store_root))

    def run(self) -> TrackedRun:
        """The MLflow run, from whatever thread or process the stage runs in."""
        return attach_run(self.run_id)

    def check(self) -> None:
        """Raises ConfigError where ``from_stage`` is no stage."""
        if self.from_stage is not None and self.from_stage not in STAGES:
            raise ConfigError(f"There is no stage {self.from_stage!r}; the stages are {', '.join(STAGES)}.")

    def forces(self, stage: str) -> bool:
        """Whether ``--from`` asks for this stage to run."""
        return self.from_stage is not None and STAGES.index(stage) >= STAGES.index(self.from_stage)


@dataclass(frozen=True)
class StageResult:
    """What a stage made, or found made."""

    name: str
    artifact: Artifact
    skipped: bool
    reason: str
    seconds: float

    def summary(self) -> dict[str, Any]:
        """The stage's line in the run's summary."""
        return {"name": self.name, "skipped": self.skipped, "reason": self.reason, "seconds": round(self.seconds, 3)}


def log_once(context: StageContext, result: StageResult, log: Callable[[TrackedRun], None]) -> None:
    """Let ``log`` record a stage in the MLflow run, unless the run holds this very artifact's record already."""
    run = context.run()
    tag = f"unroll.logged.{result.name}"
    if run.tag(tag) != result.artifact.digest:
        log(run)
        run.set_tag(tag, result.artifact.digest)


def run_stage(context: StageContext, key: StageKey, write: Callable[[Path], None]) -> StageResult:
    """Find the key's artifact, or let ``write`` fill its folder, alone among processes; logs a line either way."""
    started = time.perf_counter()
    store = context.store
    forced = context.forces(key.stage)
    with store.lock(key):
        artifact = None if forced else store.find(key)
        skipped = artifact is not None
        if artifact is not None:
            reason = f"inputs, settings and code unchanged (key {key.digest[:8]})"
            logger.info("%s: skipped; %s", key.stage, reason)
        else:
            reason = f"asked for by --from {context.from_stage}" if forced else store.explain_miss(key)
            logger.info("%s: running; %s", key.stage, reason)
            if forced:
                store.remove(key)
            artifact = store.publish(key, write)
            store.finish_work(key)
            logger.info("%s: done in %.1f s", key.stage, time.perf_counter() - started)
    return StageResult(key.stage, artifact, skipped, reason, time.perf_counter() - started)


def may_pass(error: BaseException) -> bool:
    """Whether a registry that could not be reached is all that went wrong: bad data and refusals stay what they are."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import ConnectionError, Timeout

    cause = error.__cause__
    if not isinstance(error, RegistryError) or cause is None:
        return False
    # MLflow's client wraps the transport's error into words
    words = ("failed with exception", "failed with error code 5", "Max retries exceeded")
    said = isinstance(cause, MlflowException) and any(word in str(cause) for word in words)
    return said or isinstance(cause, ConnectionError | Timeout)


def _may_pass(_task: Any, _task_run: Any, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and may_pass(error)


def stage_task(name: str) -> Callable[[Callable[Parameters, StageResult]], Callable[Parameters, StageResult]]:
    """Make a stage function a Prefect task whose final state is named Skipped where nothing was to be done.

    The decorated function still returns its StageResult; the message of the state is the reason.
    """

    def decorate(function: Callable[Parameters, StageResult]) -> Callable[Parameters, StageResult]:
        @task(name=name, task_run_name=name, persist_result=False, cache_policy=NO_CACHE)
        @wraps(function)
        def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> State[StageResult]:
            result = function(*args, **kwargs)
            return Completed(name="Skipped" if result.skipped else "Completed", message=result.reason, data=result)

        @wraps(function)
        def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> StageResult:
            # where nobody waits for an answer, a server that is being started again is waited for
            patient = run.with_options(
                retries=len(RETRY_DELAYS), retry_delay_seconds=RETRY_DELAYS, retry_condition_fn=_may_pass
            )
            state: Any = (run if deployment.id is None else patient)(*args, **kwargs, return_state=True)
            result: StageResult = state.result()
            return result

        return call

    return decorate
