"""docker-compose.yml and the local stack are the same services, settings and ports."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.services import HOST, PORTS, containers, port_variable, services

ROOT = Path(__file__).resolve().parents[3]
BESIDES = {"worker-gpu", "s3", "tools"}
"""Services of profiles, which the local stack has not."""
S3_ONLY = {"MLFLOW_S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
FOLDERS = {"configs", "src", "flows", "tasks", "stack"}
"""What an image is made from."""
CONDITIONS = {False: "service_healthy", True: "service_completed_successfully"}


def filled(value: Any, settings: Mapping[str, str]) -> Any:
    """Compose's ``${NAME:?why}`` and ``${NAME:-default}`` with the settings' values."""

    def fill(match: re.Match[str]) -> str:
        name, kind, word = match.groups()
        found = settings.get(name) or (word if kind == ":-" else None)
        assert found is not None, f"{name} is not set"
        return found

    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)(:-|:\?)([^}]*)\}", fill, value)
    if isinstance(value, dict):
        return {key: filled(each, settings) for key, each in value.items()}
    return [filled(each, settings) for each in value] if isinstance(value, list) else value


@pytest.fixture
def settings(secrets: dict[str, str]) -> dict[str, str]:
    """Ports that nobody would choose by chance, so that a fixed one shows."""
    ports = {port_variable(name): str(20_001 + index) for index, name in enumerate(PORTS)}
    return secrets | ports | {"UNROLL_WEBHOOK_URL": "http://hook.example"}


@pytest.fixture
def composed(settings: dict[str, str]) -> dict[str, Any]:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    made: dict[str, Any] = filled(yaml.safe_load(text), settings)
    return made


def test_they_are_the_same_services(settings: dict[str, str], composed: dict[str, Any]) -> None:
    described = [service.name for service in services(settings, containers(settings))]
    assert [name for name in composed["services"] if name not in BESIDES] == described
    assert {name for name, each in composed["services"].items() if each.get("profiles")} == BESIDES


def test_commands_settings_checks_and_order_are_the_same(settings: dict[str, str], composed: dict[str, Any]) -> None:
    described = {service.name: service for service in services(settings, containers(settings))}
    for name, service in described.items():
        found = composed["services"][name]
        assert tuple(found["command"]) == service.command, name
        environment = {key: value for key, value in found["environment"].items() if key not in S3_ONLY}
        assert environment == dict(service.environment), name
        assert tuple(found.get("healthcheck", {"test": ["CMD"]})["test"][1:]) == service.check, name
        assert {other: how["condition"] for other, how in found.get("depends_on", {}).items()} == {
            other: CONDITIONS[described[other].is_one_shot] for other in service.waits_for
        }, name


def test_a_bucket_is_entered_in_the_same_way(settings: dict[str, str]) -> None:
    ours = settings | {"UNROLL_ARTIFACTS": "s3://unroll/mlflow"}
    mlflow = next(service for service in services(ours, containers(ours)) if service.name == "mlflow")
    found = filled(yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8")), ours)["services"][
        "mlflow"
    ]
    assert tuple(found["command"]) == mlflow.command
    assert found["environment"] == dict(mlflow.environment)


def test_ports_are_the_same_and_on_the_loopback_interface_only(
    settings: dict[str, str], composed: dict[str, Any]
) -> None:
    place = containers(settings)
    expected = {name: [f"{HOST}:{place.published[name]}:{port}"] for name, port in PORTS.items()}
    assert {name: each["ports"] for name, each in composed["services"].items() if "ports" in each} == expected


def test_without_settings_the_ports_are_the_usual_ones(secrets: dict[str, str]) -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    made = filled(yaml.safe_load(text), secrets)
    assert {name: made["services"][name]["ports"] for name in PORTS} == {
        name: [f"{HOST}:{port}:{port}"] for name, port in PORTS.items()
    }


def test_one_shot_services_end_and_the_others_come_back(settings: dict[str, str], composed: dict[str, Any]) -> None:
    for service in services(settings, containers(settings)):
        # an engine that was killed stops the containers that ran on, and to `unless-stopped` that is a person's wish
        expected = "on-failure" if service.is_one_shot else "always"
        assert composed["services"][service.name]["restart"] == expected


def test_every_image_is_pinned_and_every_log_is_rotated(composed: dict[str, Any]) -> None:
    for name, each in composed["services"].items():
        assert re.fullmatch(r"\S+:\S*\d\S*", each["image"]), name
        assert set(each["logging"]["options"]) == {"max-size", "max-file"}, name
    base = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert all(re.fullmatch(r"python:\d+\.\d+\.\d+-\S+", image) for image in base)


def test_no_container_has_a_privilege_or_a_root_file_system_to_write_to(composed: dict[str, Any]) -> None:
    for name, each in composed["services"].items():
        if name == "s3":
            continue  # its image has not been tried so
        assert each["read_only"], name
        assert "/tmp" in each["tmpfs"], name
        assert each["cap_drop"] == ["ALL"], name
        assert each["security_opt"] == ["no-new-privileges:true"], name
        assert each.get("cap_add", []) == (["CHOWN", "DAC_OVERRIDE", "FOWNER"] if name == "tools" else []), name
        assert each.get("user", "image's") == {"tools": "0:0", "postgres": "postgres"}.get(name, "image's"), name
    assert re.findall(r"^USER (.*)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE) == ["unroll"]


def test_neither_build_names_an_index_of_packages(secrets: dict[str, str]) -> None:
    for name in ("Dockerfile", "docker-compose.yml"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert re.findall(r"https?://(?!127\.0\.0\.1|localhost|mlflow:|prefect:|s3:)\S+", text) == []
    composed = filled(yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8")), secrets)["services"]
    arguments = re.findall(r"^ARG (\S+)=$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    for name in ("worker", "worker-gpu"):
        assert composed[name]["build"]["args"] == dict.fromkeys(arguments, ""), name


def test_every_secret_is_asked_for_and_none_has_a_default(secrets: dict[str, str]) -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    for name in secrets:
        uses = re.findall(rf"\$\{{{name}\b(..)", text)
        assert uses, name
        assert set(uses) == {":?"}, name


def test_the_env_file_does_not_get_into_an_image_or_the_repository() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    named = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert named == {"constraints.txt", "pyproject.toml", "LICENSE", "prefect.yaml", *FOLDERS}
    assert {"/.env", "/.env.*"} <= set((ROOT / ".gitignore").read_text().splitlines())


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed (apt-get install)")
@pytest.mark.parametrize("profiles", [[], ["gpu"], ["s3"], ["tools"], ["gpu", "s3", "tools"]])
def test_docker_compose_reads_it(tmp_path: Path, secrets: dict[str, str], profiles: list[str]) -> None:
    options = [option for profile in profiles for option in ("--profile", profile)]
    env_file = tmp_path / ".env"  # the fixture's
    command = ["docker-compose", "--file", str(ROOT / "docker-compose.yml"), "--env-file", str(env_file), *options]
    done = subprocess.run([*command, "config"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    read = yaml.safe_load(done.stdout)["services"]
    assert read["prefect"]["environment"]["PREFECT_SERVER_API_AUTH_STRING"] == secrets["PREFECT_SERVER_API_AUTH_STRING"]


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed (apt-get install)")
def test_without_secrets_docker_compose_refuses(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    command = ["docker-compose", "--file", str(ROOT / "docker-compose.yml"), "--env-file", str(tmp_path / "empty")]
    done = subprocess.run([*command, "config"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert "unroll doctor --make-env" in done.stderr
