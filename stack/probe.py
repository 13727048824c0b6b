"""Is a service healthy? ``python -m stack.probe URL``, or ``worker``: exit 0 if so, else 1 with the reason on stderr.

Runs beside the service, in its environment; the containers' health checks call it every few seconds, so it imports
nothing but the standard library.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

SECONDS_TO_ANSWER = 5.0
HEARTBEAT_SECONDS = 30.0
"""A worker that was silent for longer than this is not healthy; it beats every ten."""


def trouble_with(what: str, environment: Mapping[str, str]) -> str | None:
    """Why ``what``, an address or ``worker``, is not healthy; None where it is."""
    return _worker_trouble(environment) if what == "worker" else _answer_trouble(what)


def _answer_trouble(url: str) -> str | None:
    try:
        with _open(urllib.request.Request(url)):
            return None
    except (OSError, ValueError) as error:
        return f"{url}: {error}"


def _worker_trouble(environment: Mapping[str, str]) -> str | None:
    from stack.services import POOL

    login = base64.b64encode(environment["PREFECT_API_AUTH_STRING"].encode()).decode()
    url = f"{environment['PREFECT_API_URL']}/work_pools/{POOL}/workers/filter"
    headers = {"authorization": f"Basic {login}", "content-type": "application/json"}
    try:
        with _open(urllib.request.Request(url, data=b"{}", headers=headers)) as answer:
            workers = json.load(answer)
    except (OSError, ValueError) as error:
        return f"{url}: {error}"
    now = datetime.now(UTC)
    beats = [datetime.fromisoformat(worker["last_heartbeat_time"]) for worker in workers]
    if any((now - beat).total_seconds() < HEARTBEAT_SECONDS for beat in beats):
        return None
    return f"no worker of the pool {POOL} was heard of for {HEARTBEAT_SECONDS:.0f} s"


def _open(request: urllib.request.Request) -> Any:
    # a proxy knows nothing of the loopback interface or of containers
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(request, timeout=SECONDS_TO_ANSWER)


def main() -> int:
    """Say what is wrong, if anything."""
    trouble = trouble_with(sys.argv[1], os.environ)
    if trouble is not None:
        print(trouble, file=sys.stderr)
    return int(trouble is not None)


if __name__ == "__main__":
    sys.exit(main())
