from __future__ import annotations

from pathlib import Path

import pytest

from stack.services import SECRETS, Place, Service, client_environment, containers, local, services
from unroll.errors import ConfigError


def described(secrets: dict[str, str]) -> tuple[Place, dict[str, Service]]:
    place = local(secrets, Path("/somewhere/stack"), Path("/somewhere"))
    return place, {service.name: service for service in services(secrets, place)}


def test_what_a_service_waits_for_stands_before_it(secrets: dict[str, str]) -> None:
    _, by_name = described(secrets)
    names = list(by_name)
    for service in by_name.values():
        assert set(service.waits_for) <= set(names[: names.index(service.name)])


def test_the_issues_services_are_there(secrets: dict[str, str]) -> None:
    _, by_name = described(secrets)
    one_shot = {name for name, service in by_name.items() if service.is_one_shot}
    assert one_shot == {"prefect-upgrade", "mlflow-upgrade", "deploy"}
    assert set(by_name) - one_shot == {"postgres", "prefect", "mlflow", "worker", "serve"}


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_has_a_default(secrets: dict[str, str], name: str) -> None:
    del secrets[name]
    with pytest.raises(ConfigError, match=name):
        services(secrets, containers(secrets))


def test_no_secret_stands_on_a_command_line(secrets: dict[str, str]) -> None:
    _, by_name = described(secrets)
    hidden = {secrets[name].rpartition(":")[2] for name in SECRETS if not name.endswith("USERNAME")}
    for service in by_name.values():
        assert not any(secret in argument for secret in hidden for argument in [*service.command, *service.check])


def test_each_service_has_only_the_secrets_that_it_needs(secrets: dict[str, str]) -> None:
    _, by_name = described(secrets)
    password = secrets["POSTGRES_PASSWORD"]
    assert {name for name, service in by_name.items() if password in service.environment.values()} == {
        *("postgres", "prefect-upgrade", "mlflow-upgrade", "prefect", "mlflow"),
    }
    assert {name for name in by_name if secrets["UNROLL_SERVE_TOKEN"] in by_name[name].environment.values()} == {
        "serve"
    }


def test_local_services_listen_on_the_loopback_interface_only(secrets: dict[str, str]) -> None:
    place, by_name = described(secrets)
    assert place.listen == "127.0.0.1"
    assert set(place.hosts.values()) == {"127.0.0.1"}
    for service in by_name.values():
        assert "0.0.0.0" not in service.command


def test_a_port_of_the_environment_reaches_every_service(secrets: dict[str, str]) -> None:
    place = local(secrets | {"UNROLL_PREFECT_PORT": "14200"}, Path("/s"), Path("/s"))
    by_name = {service.name: service for service in services(secrets, place)}
    assert by_name["prefect"].command[-1] == "14200"
    assert by_name["prefect"].environment["PREFECT_SERVER_UI_API_URL"] == "http://127.0.0.1:14200/api"
    assert by_name["worker"].environment["PREFECT_API_URL"] == "http://127.0.0.1:14200/api"
    assert client_environment(secrets, place)["PREFECT_API_URL"] == "http://127.0.0.1:14200/api"


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "4200.0"])
def test_a_port_that_is_none_is_named(secrets: dict[str, str], port: str) -> None:
    with pytest.raises(ConfigError, match="UNROLL_SERVE_PORT"):
        local(secrets | {"UNROLL_SERVE_PORT": port}, Path("/s"), Path("/s"))


def test_two_services_cannot_share_a_port(secrets: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="which another service has"):
        local(secrets | {"UNROLL_SERVE_PORT": "5000"}, Path("/s"), Path("/s"))
