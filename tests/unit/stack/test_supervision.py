from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from flows.env_file import make_env
from stack.leftovers import MARK
from stack.run import environment_of, program
from stack.setup import LONGEST_SOCKET_PATH, Setup, read_setup
from stack.supervision import configure, control_socket
from unroll.errors import ConfigError


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    make_env(tmp_path / ".env")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNROLL_HOME", str(tmp_path / "a % sign, a space"))
    return read_setup()


def test_the_configuration_is_what_supervisord_reads(setup: Setup) -> None:
    parser = configparser.RawConfigParser(strict=True)
    parser.read_string(configure(setup))
    for service in setup.services:
        section = parser[f"program:{service.name}"]
        assert section["autorestart"] == ("false" if service.is_one_shot else "true")
        assert section["stdout_logfile"].replace("%%", "%") == str(setup.logs / f"{service.name}.log")
        assert int(section["stdout_logfile_backups"]) > 0
    assert "%" not in configure(setup).replace("%%", "")


def test_no_secret_is_in_the_configuration(setup: Setup) -> None:
    text = configure(setup)
    assert not any(setup.settings[name] in text for name in ("POSTGRES_PASSWORD", "UNROLL_SERVE_TOKEN"))


@pytest.mark.parametrize("depth", [1, 40])
def test_the_sockets_name_is_never_too_long(depth: int) -> None:
    assert len(str(control_socket(Path("/" + "folder/" * depth)))) <= LONGEST_SOCKET_PATH


def test_the_environment_goes_before_the_file(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNROLL_SERVE_TOKEN", "mine")
    monkeypatch.setenv("POSTGRES_PASSWORD", "")
    now = read_setup().settings
    assert now["UNROLL_SERVE_TOKEN"] == "mine"
    assert now["POSTGRES_PASSWORD"] == setup.settings["POSTGRES_PASSWORD"]


def test_a_service_sees_its_own_settings_and_not_the_shells(setup: Setup) -> None:
    inherited = {"PREFECT_API_URL": "http://elsewhere", "PGHOST": "elsewhere", "UNROLL_MIRROR": "/corpora", "PATH": "/"}
    seen = environment_of(setup, setup.service("prefect"), inherited)
    assert "PREFECT_API_URL" not in seen
    assert "PGHOST" not in seen
    assert seen["UNROLL_MIRROR"] == "/corpora"
    assert seen["PREFECT_SERVER_DATABASE_HOST"] == "127.0.0.1"
    assert seen[MARK] == f"{setup.folder}:prefect"


def test_pythons_programs_are_run_by_this_python(setup: Setup) -> None:
    for name in ("unroll", "prefect", "mlflow", "python"):
        assert program(setup, (name, "--help"))[0].endswith("python") or "python" in program(setup, (name,))[0]


def test_a_service_that_is_none_is_named(setup: Setup) -> None:
    with pytest.raises(ConfigError, match="expected one of postgres, prefect-upgrade"):
        setup.service("redis")
