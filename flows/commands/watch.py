"""``unroll watch``: one look by the watcher's flow, on a private Prefect server or the user's."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from flows.commands.early_checks import check_servers
from flows.embedded import drain_history, prefect_server, prepare_environment, workplace
from unroll.errors import UnrollError

logger = logging.getLogger("unroll.watch")


def look_once(projects: Sequence[str], preset: str, settings: Sequence[str]) -> None:
    """Run the flow; print what was found. Raises UnrollError where something could not be looked at."""
    logger.info("unroll: looking at what %s is trained from", " and ".join(name.replace("_", " ") for name in projects))
    check_servers("PREFECT_API_URL")
    place = workplace()
    prepare_environment(place)
    server = prefect_server(place)
    server.start()
    from flows.logs import quiet_libraries
    from flows.watch import watch
    from tasks.watch import Watched

    quiet_libraries()
    watched = [
        Watched.model_validate({"project": project, "preset": preset, "settings": tuple(settings)})
        for project in projects
    ]
    with server:
        state = watch(watched, return_state=True)
        if state.state_details.flow_run_id is not None:
            drain_history([state.state_details.flow_run_id])
    message = state.message or state.name or ""
    if not state.is_completed():
        raise UnrollError(message)
    print(message)
