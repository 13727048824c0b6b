"""The stack's Prefect server, used as its page does; for tests."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import httpx

from tests.stack_world import Stack, wait_until

Fields = dict[str, Any]
ENDED = ("COMPLETED", "FAILED", "CANCELLED")


class Prefect:
    """The stack's Prefect server, asked as its page does."""

    def __init__(self, stack: Stack) -> None:
        user, _, password = stack.secrets["PREFECT_API_AUTH_STRING"].partition(":")
        url = f"http://127.0.0.1:{stack.ports['prefect']}/api"
        self._client = httpx.Client(base_url=url, auth=(user, password), timeout=30)

    def __call__(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return self._client.request(method, path, json=body)

    def deployment(self, name: str) -> Fields:
        found: Fields = self("GET", f"/deployments/name/{name}").json()
        return found

    def begin(self, name: str, **parameters: Any) -> Fields:
        answer = self("POST", f"/deployments/{self.deployment(name)['id']}/create_flow_run", {"parameters": parameters})
        assert answer.status_code == 201, answer.text
        begun: Fields = answer.json()
        return begun

    def schedule_once(self, name: str, at: datetime, **parameters: Any) -> None:
        schedule = {"interval": 86_400.0, "anchor_date": at.isoformat()}
        body = [{"schedule": schedule, "active": True, "parameters": parameters}]
        answer = self("POST", f"/deployments/{self.deployment(name)['id']}/schedules", body)
        assert answer.status_code == 201, answer.text

    def runs(self, name: str) -> list[Fields]:
        body = {"deployments": {"id": {"any_": [self.deployment(name)["id"]]}}, "sort": "EXPECTED_START_TIME_ASC"}
        found: list[Fields] = self("POST", "/flow_runs/filter", body).json()
        return found

    def run(self, run_id: str) -> Fields:
        found: Fields = self("GET", f"/flow_runs/{run_id}").json()
        return found

    def lines(self, run_id: str) -> list[str]:
        """Of ours in the run's logs, as its page shows them."""
        body = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        found = self("POST", "/logs/filter", body).json()
        return [line["message"] for line in found if line["name"].startswith("unroll")]

    def cancel(self, run_id: str) -> None:
        """As the button on the run's page does."""
        state = {"type": "CANCELLING", "name": "Cancelling"}
        answer = self("POST", f"/flow_runs/{run_id}/set_state", {"state": state})
        assert answer.status_code in (200, 201), answer.text
        wait_until(lambda: self.run(run_id)["state_type"] in ENDED, 240)

    def is_running(self, run_id: str) -> bool:
        """False too while the server does not answer."""
        try:
            return bool(self.run(run_id)["state_name"] == "Running")
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    def states(self, run_id: str) -> list[str]:
        return [state["name"] for state in self("GET", f"/flow_run_states/?flow_run_id={run_id}").json()]

    def to_its_end(self, run_id: str, seconds: float = 240) -> Fields:
        wait_until(lambda: self.run(run_id)["state_type"] in ENDED, seconds)
        return self.run(run_id)
