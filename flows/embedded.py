"""The environment a command runs in: one working folder, a private Prefect server, MLflow straight on SQLite.

With `PREFECT_API_URL` and `MLFLOW_TRACKING_URI` set, nothing here starts or redirects anything: the same code talks to
those servers. Nothing is written outside the working folder.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.prefect_server import PrefectServer, drain_history, prefect_server
from unroll.errors import StoreError, UnrollError

__all__ = ["PrefectServer", "Workplace", "drain_history", "prefect_server", "prepare_environment", "workplace"]

HOME_VARIABLE = "UNROLL_HOME"


@dataclass(frozen=True)
class Workplace:
    """Where everything that a command writes lies. Making one touches no disk."""

    root: Path
    """Absolute folder; `.unroll` in the working folder unless UNROLL_HOME says otherwise."""

    @property
    def store(self) -> Path:
        """Content-addressed artifacts."""
        return self.root / "store"

    @property
    def work(self) -> Path:
        """Stages in the making, and training states to go on from."""
        return self.root / "work"

    @property
    def runs(self) -> Path:
        """Locks of the flow runs of deployments."""
        return self.root / "runs"

    @property
    def prefect(self) -> Path:
        """Prefect's home: database, results, the private server's log."""
        return self.root / "prefect"

    @property
    def server_log(self) -> Path:
        """What the private Prefect server says."""
        return self.prefect / "server.log"

    @property
    def mlflow_database(self) -> Path:
        """MLflow's SQLite file."""
        return self.root / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        """Artifacts of the embedded MLflow store."""
        return self.root / "mlartifacts"

    @property
    def tracking_uri(self) -> str:
        """MLflow's address of the embedded store."""
        return f"sqlite:///{self.mlflow_database.as_posix()}"


def workplace() -> Workplace:
    """The workplace that the environment names; nothing is created."""
    return Workplace(Path(os.environ.get(HOME_VARIABLE) or ".unroll").expanduser().absolute())


def prepare_environment(place: Workplace) -> None:
    """Make the working folder and point Prefect, MLflow and their kind into it, before any of them is imported.

    A variable that the user has set keeps its value.

    Raises:
        StoreError: the working folder cannot be made or written.
        UnrollError: Prefect is imported already, and looks elsewhere.
    """
    _make_writable(place.root)
    for name, value in _defaults(place).items():
        if not os.environ.get(name):
            os.environ[name] = value
    _bypass_proxies()
    _check_prefect_home(Path(os.environ["PREFECT_HOME"]))


def _defaults(place: Workplace) -> Mapping[str, str]:
    return {
        "PREFECT_HOME": str(place.prefect),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",  # MLflow knows no other spelling of yes
        "PREFECT_LOGGING_LEVEL": "WARNING",
        # Our own lines stand in the flow run's logs; those outside a run are not worth a warning each.
        "PREFECT_LOGGING_EXTRA_LOGGERS": "unroll",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "MLFLOW_TRACKING_URI": place.tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        # The default of 7 blocks for minutes on a dead server; 3 is 12 seconds.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "HF_HOME": str(place.root / "huggingface"),
        "MPLCONFIGDIR": str(place.root / "matplotlib"),
        "TORCHINDUCTOR_CACHE_DIR": str(place.root / "torchinductor"),  # made at import, in the temporary folder else
    }


def _make_writable(root: Path) -> None:
    try:
        if not root.exists():
            root.mkdir(parents=True, exist_ok=True)
            (root / ".gitignore").write_text("*\n", encoding="utf-8")
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise StoreError(
            f"The working folder {root} cannot be written ({error.strerror or error}); "
            f"run in a folder of yours, or name another in {HOME_VARIABLE}."
        ) from error


def _bypass_proxies() -> None:
    # A proxy cannot reach the private server on the loopback address.
    if any(os.environ.get(name) for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")):
        known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        hosts = [host for host in known.split(",") if host]
        hosts += [host for host in ("127.0.0.1", "localhost") if host not in hosts]
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)


def _check_prefect_home(wanted: Path) -> None:
    if "prefect" not in sys.modules:
        return
    from prefect.settings import get_current_settings

    found = get_current_settings().home
    if found.absolute() != wanted.absolute():
        raise UnrollError(
            f"Prefect is imported already and keeps its files in {found}, not in {wanted}; "
            "call prepare_environment before importing prefect, or set PREFECT_HOME."
        )
