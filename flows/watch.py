"""The watcher: looks once at what is watched, and tells by events what changed since the last look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import deployment
from prefect.states import Completed, Failed

from flows.commands.deploy import POOL
from flows.embedded import workplace
from flows.run_names import run_name
from tasks.admission import admission
from tasks.reconcile import reconcile
from tasks.watch import Watched, look, report_findings

MOST_MINUTES_LATE = 4
"""Of looks that were missed the last one is enough."""
BOTH_SAMPLES = [Watched(project="sentiment"), Watched(project="language_model")]


def _name() -> str:
    return run_name("watch")


@flow(name="watch", flow_run_name=_name, log_prints=False)
def watch(watched: list[Watched] = BOTH_SAMPLES) -> State[Any]:
    """Emit ``unroll.corpus.changed`` and ``unroll.preset.changed``, once for each change since the last look.

    What cannot be looked at, such as a missing file, fails the flow run, after the others were looked at. The final
    state's message says what was found.

    Args:
        watched: Presets, with the settings that they are trained with, and the corpora that these name.
    """
    with admission(workplace().runs, MOST_MINUTES_LATE) as refusal:
        if refusal:
            return refusal
        if deployment.id is not None:
            reconcile(POOL, workplace().runs)
        return look_at_all(watched)


def look_at_all(watched: Sequence[Watched]) -> State[Any]:
    """Each in turn; what cannot be looked at does not keep the others from being looked at."""
    rows, failed = list[tuple[str, str]](), False
    for one in watched:
        state: Any = look(one, return_state=True)
        found = state.result(raise_on_failure=False)
        if isinstance(found, BaseException):
            failed = True
            rows.append((one.title, f"cannot be looked at: {found}"))
        else:
            rows.append((one.title, found.in_words()))
    report_findings(rows)
    message = ". ".join(f"{title}: {words}".rstrip(".") for title, words in rows) + "."
    return Failed(message=message) if failed else Completed(message=message)
