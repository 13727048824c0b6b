"""The stack in containers, from a fresh clone of this repository's last commit, used as its guide says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from flows.env_file import make_env, read_env
from stack.services import PORTS, port_variable
from tests.command import OURS, ROOT
from tests.containers.engine import Engine
from tests.ports import free_port

BIN = Path(sys.executable).parent
ALERTS = "/data/unroll/alerts"
ALERT_COMMAND = f'(printf "%s|" "$UNROLL_ALERT_SUBJECT"; cat) >> {ALERTS}'
BUILT_WITH_THE_HOSTS_NETWORK = {
    "services": {
        name: {"build": {"network": "host"}}
        for name in ("prefect-upgrade", "mlflow-upgrade", "prefect", "mlflow", "deploy", "worker", "serve", "tools")
    }
}
"""The packages that a build installs are on this machine's loopback interface."""


@dataclass(frozen=True)
class World:
    """A clone, and the containers that its compose file describes on the test's engine."""

    folder: Path
    engine: Engine
    override: Path
    ports: dict[str, int]

    @classmethod
    def clone(cls, folder: Path, engine: Engine) -> World:
        """Clone the last commit, with what a user would put into `.env`: ports, and a command for alerts."""
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        override = folder.parent / "override.json"  # compose reads JSON too
        override.write_text(json.dumps(BUILT_WITH_THE_HOSTS_NETWORK))
        ports = {name: free_port() for name in PORTS}
        lines = [f"{port_variable(name)}={ports[name]}" for name in PORTS]
        (folder / ".env").write_text("\n".join([*lines, f"UNROLL_ALERT_COMMAND='{ALERT_COMMAND}'", ""]))
        make_env(folder / ".env")  # compose reads nothing without it; `make up` would add it too
        return cls(folder, engine, override, ports)

    @property
    def secrets(self) -> dict[str, str]:
        """`.env` as it is now."""
        return read_env(self.folder / ".env")

    def environment(self) -> dict[str, str]:
        """The shell's environment of a user who has this engine and nothing else set."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith((*OURS, "PG", "PIP_"))}
        files = f"{self.folder}/docker-compose.yml:{self.override}"
        path = os.pathsep.join([str(self.folder / "src"), str(self.folder)])
        return plain | self.engine.environment | {"COMPOSE_FILE": files, "PYTHONPATH": path}

    def make(self, *arguments: str, timeout: float = 900) -> str:
        """``make ARGUMENTS…`` in the clone, with this environment's packages instead of `make setup`'s."""
        return self._run(["make", "-o", ".venv/installed", f"BIN={BIN}", *arguments], timeout)

    def compose(self, *arguments: str, timeout: float = 600) -> str:
        """``docker-compose ARGUMENTS…``."""
        return self._run(["docker-compose", *arguments], timeout)

    def exec(self, service: str, *command: str, timeout: float = 300) -> str:
        """A command within a service's container, which must end well; what it printed."""
        return self.compose("exec", "-T", service, *command, timeout=timeout)

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine knows of every container, by service."""
        found = json.loads(self.engine("inspect", *self.engine("ps", "--all", "--quiet").split()))
        return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in found}

    def until(self, pattern: str, service: str, *command: str, seconds: float) -> str:
        """Run a command within a container again and again until its output has the pattern; the pattern's group."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.exec(service, *command))):
            assert time.monotonic() < deadline, f"{' '.join(command)} showed no {pattern} within {seconds:.0f} s"
            time.sleep(0.5)
        return found[1]

    def models(self) -> dict[str, dict[str, str]]:
        """Aliases of each registered model, with the version that each stands for."""
        found = self._mlflow("GET", "registered-models/search", {}).get("registered_models", [])
        return {model["name"]: {each["alias"]: each["version"] for each in model.get("aliases", [])} for model in found}

    def runs(self) -> dict[str, Any]:
        """Every run of MLflow, by its id."""
        experiments = self._mlflow("POST", "experiments/search", {"max_results": 100})["experiments"]
        asked = {"experiment_ids": [each["experiment_id"] for each in experiments], "max_results": 100}
        return {run["info"]["run_id"]: run for run in self._mlflow("POST", "runs/search", asked).get("runs", [])}

    def serves(self) -> bool:
        """Whether a champion is being served."""
        try:
            return httpx.get(self._url("serve", "/readyz"), timeout=10).status_code == 200
        except httpx.HTTPError:
            return False

    def predictions(self) -> list[Any]:
        """What the served champion makes of some texts."""
        headers = {"authorization": f"Bearer {self.secrets['UNROLL_SERVE_TOKEN']}"}
        answer = httpx.post(
            self._url("serve", "/v1/sentiment"),
            json={"texts": ["It was dull.", "It was moving."]},
            headers=headers,
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        found: list[Any] = answer.json()["predictions"]
        return found

    def answers(self, secrets: dict[str, str]) -> dict[str, int]:
        """The status with which each service answers these credentials."""
        user, _, password = secrets["PREFECT_API_AUTH_STRING"].partition(":")
        mlflow = (secrets["MLFLOW_TRACKING_USERNAME"], secrets["MLFLOW_TRACKING_PASSWORD"])
        asked = {
            "prefect": httpx.Request("GET", self._url("prefect", "/api/admin/version")),
            "mlflow": httpx.Request("GET", self._url("mlflow", "/version")),
            "serve": httpx.Request("GET", self._url("serve", "/metrics")),
        }
        asked["serve"].headers["authorization"] = f"Bearer {secrets['UNROLL_SERVE_TOKEN']}"
        logins = {"prefect": httpx.BasicAuth(user, password), "mlflow": httpx.BasicAuth(*mlflow)}
        with httpx.Client(timeout=30) as client:
            return {name: client.send(each, auth=logins.get(name)).status_code for name, each in asked.items()}

    def _mlflow(self, method: str, path: str, body: dict[str, Any]) -> Any:
        login = (self.secrets["MLFLOW_TRACKING_USERNAME"], self.secrets["MLFLOW_TRACKING_PASSWORD"])
        url = self._url("mlflow", f"/api/2.0/mlflow/{path}")
        answer = httpx.request(method, url, auth=login, timeout=60, **({"json": body} if body else {}))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _url(self, service: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[service]}{path}"

    def _run(self, command: list[str], timeout: float) -> str:
        options = {"cwd": self.folder, "env": self.environment(), "timeout": timeout}
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        assert done.returncode == 0, f"{' '.join(command)}: {(done.stdout + done.stderr)[-6000:]}"
        return done.stdout
