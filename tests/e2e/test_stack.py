"""The whole stack on real PostgreSQL: it comes up, asks for credentials, mends itself, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import httpx
import psutil
import psycopg
import pytest

from tests.stack_world import Stack, new_stack, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def login(text: str) -> tuple[str, str]:
    user, _, password = text.partition(":")
    return user, password


@pytest.mark.parametrize("user", ["unroll", "postgres"])
@pytest.mark.parametrize("password", [None, "", "wrong"])
@pytest.mark.parametrize("database", ["postgres", "prefect", "mlflow"])
def test_postgres_refuses_without_its_password(stack: Stack, user: str, password: str | None, database: str) -> None:
    where = {"host": "127.0.0.1", "port": stack.ports["postgres"], "user": user, "dbname": database}
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(**where, password=password, connect_timeout=10)  # type: ignore[arg-type]


def test_postgres_takes_its_password_and_stores_none_in_plain(stack: Stack) -> None:
    where = {"host": "127.0.0.1", "port": stack.ports["postgres"], "user": "unroll", "dbname": "postgres"}
    with psycopg.connect(**where, password=stack.secrets["POSTGRES_PASSWORD"]) as connection:  # type: ignore[arg-type]
        kept = connection.execute("SELECT rolname, rolpassword FROM pg_authid WHERE rolcanlogin").fetchall()
        ways = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
        listens = connection.execute("SHOW listen_addresses").fetchone()
    assert [name for name, _ in kept] == ["unroll"]
    assert all(secret.startswith("SCRAM-SHA-256$") for _, secret in kept)
    assert ways == [("scram-sha-256",)]
    assert listens == ("127.0.0.1",)


PREFECT_PATHS = ["/api/admin/version", "/api/admin/settings", "/api/docs", "/api/flows/filter", "/api/flow_runs/filter"]
MLFLOW_PATHS = [
    *("/", "/version", "/metrics", "/docs", "/openapi.json", "/signup", "/graphql", "/v1/traces"),
    *("/api/2.0/mlflow/experiments/search", "/ajax-api/2.0/mlflow/experiments/search", "/get-artifact"),
    *("/api/2.0/mlflow-artifacts/artifacts", "/api/2.0/mlflow/users/get", "/gateway/any/invocations"),
]
SERVE_PATHS = ["/metrics", "/v1/sentiment", "/v1/generate"]
BEARER = {"authorization": "Bearer wrong"}
NO_LOGIN: list[dict[str, str]] = [{}, {"authorization": "Basic dW5yb2xsOg=="}, BEARER]


@pytest.mark.parametrize("headers", NO_LOGIN)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("service", "path"),
    [
        *(("prefect", path) for path in PREFECT_PATHS),
        *(("mlflow", path) for path in MLFLOW_PATHS),
        *(("serve", path) for path in SERVE_PATHS),
    ],
)
def test_http_refuses_without_credentials(
    stack: Stack, service: str, path: str, method: str, headers: dict[str, str]
) -> None:
    url = f"http://127.0.0.1:{stack.ports[service]}{path}"
    answer = httpx.request(method, url, headers=headers, timeout=20)
    refusals = [(401, service)]
    refusals += [(405, "serve")]  # what has no such method may say so before it asks who is there
    refusals += [(500, "mlflow")] if headers == BEARER else []  # MLflow 3.17 stumbles over a login of no known kind
    assert (answer.status_code, service) in refusals
    assert len(answer.content) < 500


@pytest.mark.parametrize("path", ["/api/events/in", "/api/events/out", "/api/logs/out"])
@pytest.mark.parametrize("token", [None, "", "unroll:wrong"])
def test_prefects_web_sockets_refuse_without_credentials(stack: Stack, path: str, token: str | None) -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed
    from websockets.typing import Subprotocol

    async def hear() -> str:
        url = f"ws://127.0.0.1:{stack.ports['prefect']}{path}"
        async with connect(url, subprotocols=[Subprotocol("prefect")], proxy=None) as socket:
            if token is not None:
                await socket.send(json.dumps({"type": "auth", "token": token}))
            else:
                await socket.send(json.dumps({"type": "event"}))
            return str(await asyncio.wait_for(socket.recv(), 20))

    try:
        said = asyncio.run(hear())
    except ConnectionClosed:
        return
    assert "auth_success" not in said


def test_with_credentials_every_service_answers(stack: Stack) -> None:
    assert answers_to(stack, stack.secrets) == [200, 200, 200, "open"]


def test_mlflow_answers_no_other_host_name(stack: Stack) -> None:
    known = stack.secrets
    answer = httpx.get(
        f"http://127.0.0.1:{stack.ports['mlflow']}/",
        auth=(known["MLFLOW_TRACKING_USERNAME"], known["MLFLOW_TRACKING_PASSWORD"]),
        headers={"host": "evil.example"},
    )
    assert answer.status_code == 403


def test_no_port_is_open_on_another_interface(stack: Stack) -> None:
    ours = {process.pid for process in stack.processes()}
    open_to = {
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.pid in ours
    }
    assert open_to == {"127.0.0.1"}


def test_no_secret_stands_on_a_command_line_or_in_the_supervisors_file(stack: Stack) -> None:
    shown = " ".join(" ".join(process.cmdline()) for process in stack.processes())
    shown += (stack.data / "supervisord.conf").read_text()
    shown += "".join(path.read_text(errors="replace") for path in (stack.data / "logs").iterdir())
    names = [name for name in stack.secrets if not name.endswith(("USERNAME", "ACCESS_KEY"))]
    assert [name for name in names if stack.secrets[name].rpartition(":")[2] in shown] == []


@pytest.mark.parametrize("service", ["prefect", "mlflow", "serve", "postgres", "worker"])
def test_a_killed_service_is_started_again(stack: Stack, service: str) -> None:
    oldest = min(stack.processes(service), key=lambda process: process.create_time())
    oldest.kill()
    wait_until(lambda: oldest not in stack.processes(service))
    wait_until(lambda: stack.status().get(service) == "healthy", pause=2)
    # those that were talking to it find it again
    wait_until(lambda: set(stack.status().values()) <= {"healthy", "done", "stopped"}, pause=2)


def test_rotated_secrets_are_the_only_ones_that_open(stack: Stack) -> None:
    old = stack.secrets
    done = stack("rotate")
    assert done.returncode == 0, done.stderr
    new = stack.secrets
    assert {name for name in old if old[name] == new[name]} == {"MLFLOW_TRACKING_USERNAME", "UNROLL_S3_ACCESS_KEY"}
    assert set(stack.status().values()) <= {"healthy", "done", "stopped"}
    assert answers_to(stack, old) == [401, 401, 401, "refused"]
    assert answers_to(stack, new) == [200, 200, 200, "open"]


def answers_to(stack: Stack, secrets: dict[str, str]) -> list[int | str]:
    """What Prefect, MLflow, serve and PostgreSQL say to these secrets."""
    url = "http://127.0.0.1:{}".format
    found: list[int | str] = [
        httpx.get(
            f"{url(stack.ports['prefect'])}/api/admin/version", auth=login(secrets["PREFECT_API_AUTH_STRING"])
        ).status_code,
        httpx.get(
            f"{url(stack.ports['mlflow'])}/",
            auth=(secrets["MLFLOW_TRACKING_USERNAME"], secrets["MLFLOW_TRACKING_PASSWORD"]),
        ).status_code,
        httpx.get(
            f"{url(stack.ports['serve'])}/metrics", headers={"authorization": f"Bearer {secrets['UNROLL_SERVE_TOKEN']}"}
        ).status_code,
    ]
    where = {"host": "127.0.0.1", "port": stack.ports["postgres"], "user": "unroll", "dbname": "mlflow"}
    try:
        psycopg.connect(**where, password=secrets["POSTGRES_PASSWORD"]).close()  # type: ignore[arg-type]
    except psycopg.OperationalError:
        return [*found, "refused"]
    return [*found, "open"]


def test_commands_say_when_credentials_are_missing_or_wrong(stack: Stack) -> None:
    ours = stack.client_environment()
    for change, words in [
        ({"PREFECT_API_AUTH_STRING": "unroll:wrong"}, "refuses the credentials in PREFECT_API_AUTH_STRING"),
        ({"MLFLOW_TRACKING_PASSWORD": "wrong"}, "refuses the credentials in MLFLOW_TRACKING_USERNAME"),
        ({"MLFLOW_TRACKING_USERNAME": ""}, "asks for credentials; set MLFLOW_TRACKING_USERNAME"),
    ]:
        for command in (("run", "sentiment"), ("doctor",)):
            done = subprocess.run(
                [sys.executable, "-m", "flows.cli", *command],
                cwd=stack.folder,
                env=stack.environment() | ours | change,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 1
            assert words in done.stdout + done.stderr
            assert "Traceback" not in done.stderr
    assert "answers" in stack.unroll("doctor").stdout


def test_a_service_that_does_not_come_up_is_named_with_its_log_and_nothing_stays_up() -> None:
    with new_stack() as broken:
        (broken.folder / ".env").write_text("MLFLOW_TRACKING_PASSWORD=short\n")
        done = broken("up")
        assert done.returncode == 1
        assert "mlflow" in done.stderr.split("Error: ")[1].splitlines()[0]
        assert "The end of its log" in done.stderr
        assert "at least" in done.stderr
        assert broken.processes() == []
