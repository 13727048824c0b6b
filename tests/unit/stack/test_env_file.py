from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.env_file import MAKERS, fresh_env, make_env, read_env, with_values

LONG_ENOUGH = 32
SECRET = [name for name in MAKERS if not name.endswith(("USERNAME", "ACCESS_KEY"))]


def test_it_is_whole_private_and_different_each_time(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    assert make_env(first) == list(MAKERS)
    make_env(second)
    assert first.stat().st_mode & 0o777 == 0o600
    one, other = read_env(first), read_env(second)
    assert all(one[name] != other[name] for name in SECRET)
    assert all(len(one[name].rpartition(":")[2]) >= LONG_ENOUGH for name in SECRET)
    values = [one[name] for name in SECRET if name != "PREFECT_API_AUTH_STRING"]
    assert len(set(values)) == len(values)
    assert one["PREFECT_API_AUTH_STRING"] == one["PREFECT_SERVER_API_AUTH_STRING"]


def test_made_again_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    make_env(path)
    before = path.read_bytes()
    assert make_env(path) == []
    assert path.read_bytes() == before


@given(kept=st.sets(st.sampled_from(list(MAKERS))))
def test_what_is_there_stays_and_what_lacks_is_added(tmp_path_factory: pytest.TempPathFactory, kept: set[str]) -> None:
    path = tmp_path_factory.mktemp("env") / ".env"
    mine = {name: f"user:mine-{name}" for name in kept}
    path.write_text("# mine\nOTHER=1\n" + "".join(f"{name}={value}\n" for name, value in mine.items()))
    assert set(make_env(path)) == set(MAKERS) - kept
    found = read_env(path)
    assert found["OTHER"] == "1"
    assert {name: found[name] for name in mine} == mine
    assert path.read_text().startswith("# mine\n")


def test_a_name_without_a_value_counts_as_lacking(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("UNROLL_SERVE_TOKEN=\n")
    assert "UNROLL_SERVE_TOKEN" in make_env(path)
    assert len(read_env(path)["UNROLL_SERVE_TOKEN"]) >= LONG_ENOUGH


def test_a_file_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    make_env(path)
    path.chmod(0o644)
    make_env(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_fresh_values_are_all_new_and_user_names_stay(tmp_path: Path) -> None:
    make_env(tmp_path / ".env")
    old = read_env(tmp_path / ".env") | {"MLFLOW_TRACKING_USERNAME": "me"}
    fresh = fresh_env(old)
    assert set(fresh) == set(MAKERS)
    assert all(fresh[name] != old[name] for name in SECRET)
    assert fresh["MLFLOW_TRACKING_USERNAME"] == "me"
    assert fresh["PREFECT_API_AUTH_STRING"] == fresh["PREFECT_SERVER_API_AUTH_STRING"]


def test_other_lines_outlive_new_values() -> None:
    text = "# a comment\nUNROLL_SERVE_TOKEN=old\nOTHER=1\n"
    assert with_values(text, {"UNROLL_SERVE_TOKEN": "new"}) == "# a comment\nOTHER=1\nUNROLL_SERVE_TOKEN=new\n"
