"""The services of the stack, described once: for the local processes of `make stack` and for docker-compose.yml.

`docker-compose.yml` says the same in its own words; tests/unit/stack/test_compose.py holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.env_file import USER
from unroll.errors import ConfigError

DATABASES = ("prefect", "mlflow")
POOL = "unroll"
"""The work pool of every deployment."""

HOST = "127.0.0.1"
"""The loopback interface: the only one on which a port of this machine is opened."""

PORTS = {"postgres": 5432, "prefect": 4200, "mlflow": 5000, "serve": 8000}
"""The services that listen, with the port that each has unless `UNROLL_<SERVICE>_PORT` says otherwise."""

SECRETS = (
    "POSTGRES_PASSWORD",
    "PREFECT_SERVER_API_AUTH_STRING",
    "PREFECT_API_AUTH_STRING",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "UNROLL_SERVE_TOKEN",
)
"""What `.env` must hold. No service has a default for any of them."""

WISHES = ("UNROLL_WEBHOOK_URL", "UNROLL_ALERT_COMMAND", "UNROLL_TIMEZONE", "UNROLL_MIRROR")
"""What may stand in `.env` for flow runs and `unroll deploy`, or may not."""

DAY_SECONDS = 86_400
HISTORY_DAYS = 90
EVENT_DAYS = 7


@dataclass(frozen=True)
class Place:
    """Where the services run: how they reach each other, and where they keep their files."""

    listen: str
    """Address that servers bind."""
    hosts: Mapping[str, str]
    """Name or address at which the other services reach each service that listens."""
    ports: Mapping[str, int]
    """Port that each of them listens on."""
    published: Mapping[str, int]
    """Port of this machine's loopback interface at which each can be reached."""
    data: str
    """Folder of what the services keep."""
    database: str
    """PostgreSQL's data folder."""
    home: str
    """UNROLL_HOME of what flow runs make: the stage store and its kind."""
    bucket: str
    """Address of the S3-compatible store beside the services; empty where there is none."""
    code: str
    """Folder that holds the packages `flows` and `stack`."""

    def url(self, service: str) -> str:
        """Address of a service for the others."""
        return f"http://{self.hosts[service]}:{self.ports[service]}"


@dataclass(frozen=True)
class Service:
    """One process of the stack."""

    name: str
    command: tuple[str, ...]
    """Program and arguments; the program is one of Python's (python, prefect, mlflow, unroll) or of PostgreSQL's."""
    environment: Mapping[str, str]
    waits_for: tuple[str, ...] = ()
    """Services that must be healthy, and one-shot ones that must have ended well, before this one starts."""
    check: tuple[str, ...] = ()
    """Command, run beside the service, that ends with 0 while it is healthy; of one-shot services none."""
    listens: bool = False
    """Whether it has a port, under its own name in `PORTS`."""

    @property
    def is_one_shot(self) -> bool:
        """Whether it does its work and ends."""
        return not self.check


def local(settings: Mapping[str, str], folder: Path, home: Path) -> Place:
    """Processes of this machine: all on the loopback interface, each on the port that the settings give it.

    folder: of the stack's data. Raises ConfigError: a port is none, or two services have the same.
    """
    ports = published_ports(settings)
    code = Path(__file__).resolve().parents[1]
    hosts = dict.fromkeys(PORTS, HOST)
    return Place(HOST, hosts, ports, ports, str(folder), f"{folder}/postgres", str(home), "", str(code))


def containers(settings: Mapping[str, str]) -> Place:
    """Containers of docker-compose.yml: each a host of its own, published on this machine's loopback interface."""
    hosts = {name: name for name in PORTS}
    published = published_ports(settings)
    database = "/var/lib/postgresql/data"  # the image's own, which belongs to PostgreSQL's user
    return Place("0.0.0.0", hosts, PORTS, published, "/data", database, "/data/unroll", "http://s3:9000", "/app")


def port_variable(service: str) -> str:
    """Name of the environment variable with a service's port."""
    return f"UNROLL_{service.upper()}_PORT"


def published_ports(settings: Mapping[str, str]) -> dict[str, int]:
    """Port of this machine for each service that listens. Raises ConfigError: a port is none, or is given twice."""
    ports: dict[str, int] = {}
    for name, usual in PORTS.items():
        found = settings.get(port_variable(name)) or str(usual)
        if not found.isdecimal() or not 1 <= int(found) <= 65_535:
            raise ConfigError(f"{port_variable(name)} is {found!r}; expected a port, 1 to 65535.")
        if int(found) in ports.values():
            raise ConfigError(f"{port_variable(name)} is {found}, which another service has; give each its own.")
        ports[name] = int(found)
    return ports


def services(settings: Mapping[str, str], place: Place) -> tuple[Service, ...]:
    """Every service, each after those it waits for.

    settings: the environment over `.env`. Raises ConfigError: a secret is missing.
    """
    missing = [name for name in SECRETS if not settings.get(name)]
    if missing:
        raise ConfigError(f"{', '.join(missing)} not set; 'unroll doctor --make-env' writes what .env lacks.")
    return (
        _postgres(settings, place),
        _prefect_upgrade(settings, place),
        _mlflow_upgrade(settings, place),
        _prefect(settings, place),
        _mlflow(settings, place),
        Service("deploy", ("unroll", "deploy"), _client(settings, place), waits_for=("prefect", "mlflow")),
        _worker(settings, place),
        _serve(settings, place),
    )


def _postgres(settings: Mapping[str, str], place: Place) -> Service:
    environment = {
        "PGDATA": place.database,
        "POSTGRES_USER": USER,
        "POSTGRES_DB": "postgres",
        "POSTGRES_PASSWORD": settings["POSTGRES_PASSWORD"],
        "POSTGRES_INITDB_ARGS": "--auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --data-checksums",
    }
    port = place.ports["postgres"]
    check = ("pg_isready", "--quiet", f"--host={HOST}", f"--port={port}", f"--username={USER}")
    return Service("postgres", ("postgres", "-p", str(port)), environment, check=check, listens=True)


def _prefect_upgrade(settings: Mapping[str, str], place: Place) -> Service:
    environment = _database(settings, place) | _prefect_server(settings, place)
    return Service("prefect-upgrade", _python("stack.upgrade", "prefect"), environment, waits_for=("postgres",))


def _mlflow_upgrade(settings: Mapping[str, str], place: Place) -> Service:
    # artifacts, for a restore that was cut short is undone here
    environment = _database(settings, place) | _mlflow_server(settings, place)
    environment["UNROLL_ARTIFACTS"] = artifacts_of(settings, place)
    return Service("mlflow-upgrade", _python("stack.upgrade", "mlflow"), environment, waits_for=("postgres",))


def _prefect(settings: Mapping[str, str], place: Place) -> Service:
    port = place.ports["prefect"]
    # Services stay in the server's process: apart from it they would need Redis to hear of events.
    return Service(
        "prefect",
        ("prefect", "server", "start", "--host", place.listen, "--port", str(port)),
        _prefect_server(settings, place),
        waits_for=("prefect-upgrade",),
        check=_python("stack.probe", f"http://{HOST}:{port}/api/ready"),
        listens=True,
    )


def _mlflow(settings: Mapping[str, str], place: Place) -> Service:
    port = place.ports["mlflow"]
    command = (
        *("mlflow", "server", "--host", place.listen, "--port", str(port), "--workers", "1"),
        *("--app-name", "basic-auth", "--backend-store-uri", "postgresql+psycopg:///mlflow"),
        # models and plots go through the server, so that clients need neither its disk nor its bucket's keys
        *("--serve-artifacts", "--artifacts-destination", artifacts_of(settings, place)),
    )
    return Service(
        "mlflow",
        command,
        _database(settings, place) | _mlflow_server(settings, place) | _bucket(settings, place),
        waits_for=("mlflow-upgrade",),
        check=_python("stack.probe", f"http://{HOST}:{port}/health"),
        listens=True,
    )


def _worker(settings: Mapping[str, str], place: Place) -> Service:
    # so that a dead worker shows within half a minute
    environment = _client(settings, place) | {"PREFECT_WORKER_HEARTBEAT_SECONDS": "10"}
    return Service(
        "worker",
        _python("flows.worker", "--pool", POOL, "--type", "process", "--name", "worker"),
        environment,
        waits_for=("prefect", "mlflow", "deploy"),
        check=_python("stack.probe", "worker"),
    )


def _serve(settings: Mapping[str, str], place: Place) -> Service:
    environment = _tracking(settings, place) | {
        "UNROLL_HOME": place.home,
        "UNROLL_SERVE_TOKEN": settings["UNROLL_SERVE_TOKEN"],
    }
    port = place.ports["serve"]
    return Service(
        "serve",
        ("unroll", "serve", "--host", place.listen, "--port", str(port), "--token-env", "UNROLL_SERVE_TOKEN"),
        environment,
        waits_for=("mlflow",),
        # alive, not ready: it waits for the first champion and takes it up when there is one
        check=_python("stack.probe", f"http://{HOST}:{port}/healthz"),
        listens=True,
    )


def artifacts_of(settings: Mapping[str, str], place: Place) -> str:
    """Where MLflow's server keeps artifacts: a folder, or what UNROLL_ARTIFACTS names (``s3://bucket/path``)."""
    return settings.get("UNROLL_ARTIFACTS") or f"{place.data}/artifacts"


def client_environment(settings: Mapping[str, str], place: Place) -> dict[str, str]:
    """What to set so that `unroll`, `prefect` and `mlflow` use the stack."""
    return {
        "PREFECT_API_URL": f"{place.url('prefect')}/api",
        "PREFECT_API_AUTH_STRING": settings["PREFECT_API_AUTH_STRING"],
    } | _tracking(settings, place)


def _tracking(settings: Mapping[str, str], place: Place) -> dict[str, str]:
    return {
        "MLFLOW_TRACKING_URI": place.url("mlflow"),
        "MLFLOW_TRACKING_USERNAME": settings["MLFLOW_TRACKING_USERNAME"],
        "MLFLOW_TRACKING_PASSWORD": settings["MLFLOW_TRACKING_PASSWORD"],
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _client(settings: Mapping[str, str], place: Place) -> dict[str, str]:
    return client_environment(settings, place) | {
        "PREFECT_HOME": f"{place.data}/worker",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "UNROLL_HOME": place.home,
        "PREFECT_UI_URL": _page(place, "prefect"),
        **{name: settings.get(name, "") for name in WISHES},
    }


def _database(settings: Mapping[str, str], place: Place) -> dict[str, str]:
    return {
        "PGHOST": place.hosts["postgres"],
        "PGPORT": str(place.ports["postgres"]),
        "PGUSER": USER,
        "PGPASSWORD": settings["POSTGRES_PASSWORD"],
    }


def _prefect_server(settings: Mapping[str, str], place: Place) -> dict[str, str]:
    return {
        "PREFECT_HOME": f"{place.data}/prefect",
        "PREFECT_SERVER_DATABASE_DRIVER": "postgresql+asyncpg",
        "PREFECT_SERVER_DATABASE_HOST": place.hosts["postgres"],
        "PREFECT_SERVER_DATABASE_PORT": str(place.ports["postgres"]),
        "PREFECT_SERVER_DATABASE_USER": USER,
        "PREFECT_SERVER_DATABASE_NAME": "prefect",
        "PREFECT_SERVER_DATABASE_PASSWORD": settings["POSTGRES_PASSWORD"],
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
        "PREFECT_SERVER_API_AUTH_STRING": settings["PREFECT_SERVER_API_AUTH_STRING"],
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": _origins(place, "prefect"),
        "PREFECT_SERVER_UI_API_URL": f"{_page(place, 'prefect')}/api",
        "PREFECT_UI_URL": _page(place, "prefect"),  # for the links in alerts
        # else it unpacks its pages among the installed packages, which are not its own in a container
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": f"{place.data}/prefect/ui",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "DO_NOT_TRACK": "true",
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "true",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "true",
        "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "true",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "true",
        # flow runs with their task runs, logs and artifacts; events, of which there are many more
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(HISTORY_DAYS * DAY_SECONDS),
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": f"P{EVENT_DAYS}D",
    }


def _mlflow_server(settings: Mapping[str, str], place: Place) -> dict[str, str]:
    return {
        "MLFLOW_AUTH_CONFIG_PATH": f"{place.code}/stack/mlflow_auth.ini",
        "MLFLOW_AUTH_ADMIN_USERNAME": settings["MLFLOW_TRACKING_USERNAME"],
        "MLFLOW_AUTH_ADMIN_PASSWORD": settings["MLFLOW_TRACKING_PASSWORD"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": settings["MLFLOW_FLASK_SERVER_SECRET_KEY"],
        "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow:*,localhost:*,127.0.0.1:*",
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": _origins(place, "mlflow"),
        # seven processes and two gigabytes for jobs that Unroll does not use
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def _page(place: Place, service: str) -> str:
    """Where a person finds a service's page."""
    return f"http://{HOST}:{place.published[service]}"


def _bucket(settings: Mapping[str, str], place: Place) -> dict[str, str]:
    """Where a bucket is and how to enter it; nothing where artifacts are in a folder, or the shell has AWS's own."""
    endpoint = settings.get("UNROLL_S3_ENDPOINT") or place.bucket
    if not endpoint or not settings.get("UNROLL_ARTIFACTS", "").startswith("s3://"):
        return {}
    return {
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": settings.get("UNROLL_S3_ACCESS_KEY", ""),
        "AWS_SECRET_ACCESS_KEY": settings.get("UNROLL_S3_SECRET_KEY", ""),
    }


def _origins(place: Place, service: str) -> str:
    """Pages of which addresses may call a server from a browser: its own."""
    port = place.published[service]
    return f"http://127.0.0.1:{port},http://localhost:{port}"


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return ("python", "-m", module, *arguments)
