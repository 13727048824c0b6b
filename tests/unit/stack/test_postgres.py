from __future__ import annotations

import os
from pathlib import Path

import pytest

from stack import postgres
from unroll.errors import StoreError, UnrollError


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Debian's folder with PostgreSQL 9, 15 and 17 in it, and nothing on PATH."""
    folder = tmp_path / "postgresql"
    for version in ("9", "15", "17"):
        for name in ("postgres", "initdb"):
            path = folder / version / "bin" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o755)
    monkeypatch.setattr(postgres, "DEBIAN", folder)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    return folder


def test_the_newest_version_is_taken(debian: Path) -> None:
    assert postgres.find_program("initdb") == debian / "17" / "bin" / "initdb"


def test_data_are_opened_by_the_version_that_made_them(debian: Path, tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("15\n")
    assert postgres.find_program("initdb", tmp_path) == debian / "15" / "bin" / "initdb"


def test_data_of_a_version_that_is_not_installed(debian: Path, tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("16\n")
    with pytest.raises(UnrollError, match=r"PostgreSQL 16, which is not installed\. Install postgresql-16"):
        postgres.find_program("initdb", tmp_path)


def test_without_postgresql_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnrollError, match="apt-get install postgresql"):
        postgres.find_program("initdb")


def test_postgresql_on_the_path_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path / "none")
    (tmp_path / "initdb").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert postgres.find_program("initdb") == (tmp_path / "initdb").resolve()


def test_a_folder_that_its_user_cannot_enter_is_named(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = short_folder / "closed"
    (closed / "stack").mkdir(parents=True)
    closed.chmod(0o700)
    monkeypatch.setattr(postgres, "account", lambda: postgres.Account("postgres", 54_321, 54_321))
    with pytest.raises(StoreError, match=rf"may not enter {closed} \(mode 0700\)"):
        postgres.prepare(closed / "stack" / "postgres", {})


@pytest.mark.parametrize(
    "content",
    ["", "no number", "999999999\n", f"{os.getpid()}\nsomething\n"],
    ids=["empty", "no number", "a dead process's", "another program's"],  # the same in every process of tests
)
def test_the_lock_of_a_server_that_is_gone_is_removed(tmp_path: Path, content: str) -> None:
    lock = tmp_path / "postmaster.pid"
    lock.write_text(content)
    postgres.drop_stale_lock(tmp_path)
    assert not lock.exists()


@pytest.mark.parametrize("is_ours", [True, False])
def test_the_lock_is_that_of_the_server_which_works_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ours: bool
) -> None:
    """After a reboot the number may be that of another PostgreSQL of the machine."""
    lock = tmp_path / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n")
    monkeypatch.setattr("psutil.Process.name", lambda self: "postgres")
    monkeypatch.chdir(tmp_path if is_ours else tmp_path.parent)
    postgres.drop_stale_lock(tmp_path)
    assert lock.exists() is is_ours
