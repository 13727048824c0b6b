"""A restore that is killed, cut off or refused at any instant: all is old or all is new, and the next start sees to it.

On real PostgreSQL. Instants are lines of our code and moments of time, chosen at random by seed; what was left is taken
up by a start, a backup or another restore, which may be killed as well.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql

from stack import upgrade
from stack.archive import write_archive
from stack.backup import write_backup
from stack.restore import restore_backup, settle
from stack.vault import Vault
from tests.vault_world import VaultWorld, in_child, kill_later, kill_now, new_vault_world
from unroll.errors import UnrollError

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

SEEDS = range(14)


@pytest.fixture(scope="module")
def world() -> Iterator[VaultWorld]:
    """Contents "red" and "blue", with a backup of each; blue is there."""
    with new_vault_world() as made:
        for name in ("red", "blue"):
            made.fill(name)
            write_backup(made.vault, made.folder / f"{name}.tar")
        yield made


@pytest.fixture(scope="module")
def undisturbed(world: VaultWorld) -> tuple[int, float]:
    """How many lines of our code and how many seconds a whole restore takes."""
    restore, began = restore_other(world), time.monotonic()
    whole = in_child(restore)
    assert (whole.was_killed, whole.error) == (False, "")
    assert whole.lines > 100
    return whole.lines, time.monotonic() - began


@pytest.fixture
def lines(undisturbed: tuple[int, float]) -> int:
    return undisturbed[0]


def restore_other(world: VaultWorld) -> Callable[[], object]:
    """A restore of the backup that is not what is there."""
    other = "red" if world.whole() == "blue" else "blue"
    return lambda: restore_backup(world.vault, world.folder / f"{other}.tar", replace=True)


def start_again(vault: Vault) -> None:
    """What the one-shot service for MLflow does before MLflow's server may start."""
    os.environ |= {**vault.connection, "UNROLL_ARTIFACTS": vault.artifacts}
    sys.argv = ["upgrade", "mlflow"]
    upgrade.upgrade_mlflow = lambda: None
    assert upgrade.main() == 0


def a_line(lines: int, seed: int, rng: random.Random) -> int:
    """One at random of a seed's own stretch: together they try every part of a restore."""
    return 1 + int((seed + rng.random()) / len(SEEDS) * lines)


def ways_on(world: VaultWorld, rng: random.Random) -> Callable[[], object]:
    """One of the commands that may come next."""
    commands: list[Callable[[], object]] = [
        lambda: start_again(world.vault),
        lambda: write_backup(world.vault, world.folder / f"made-{rng.getrandbits(64)}.tar"),
        lambda: restore_backup(world.vault, world.folder / "red.tar", replace=True),
    ]
    return rng.choice(commands)


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_at_any_line(world: VaultWorld, lines: int, seed: int) -> None:
    rng = random.Random(seed)
    ended = in_child(restore_other(world), a_line(lines, seed, rng), kill_now)
    assert ended.was_killed
    for _ in range(rng.randint(0, 2)):  # what comes next is killed too
        in_child(ways_on(world, rng), rng.randint(1, lines // 2), kill_now)
    done = in_child(ways_on(world, rng))
    assert (done.was_killed, done.error) == (False, "")
    world.whole()


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_moment(world: VaultWorld, undisturbed: tuple[int, float], seed: int) -> None:
    in_child(restore_other(world), 1, kill_later(random.Random(seed), undisturbed[1]))
    settle(world.vault)
    world.whole()


@pytest.mark.parametrize("seed", range(3))
def test_the_server_is_killed_with_it(world: VaultWorld, lines: int, seed: int) -> None:
    rng = random.Random(seed)

    def kill_both() -> None:
        assert world.server is not None
        os.kill(world.server.pid, signal.SIGKILL)
        kill_now()

    assert in_child(restore_other(world), rng.randint(lines // 3, lines), kill_both).was_killed
    world.stop(signal.SIGKILL)
    world.start()
    settle(world.vault)
    world.whole()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_fails_at_any_line_is_undone_at_once(world: VaultWorld, lines: int, seed: int) -> None:
    rng = random.Random(seed)

    def cut_off() -> None:
        with world.vault.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )

    def fill_disk() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = world.whole()
    ended = in_child(restore_other(world), a_line(lines, seed, rng), rng.choice([cut_off, fill_disk]))
    assert not ended.was_killed
    assert ended.error == "" or world.whole() == before
    # but for what was replaced, which can stay for the next start
    settle(world.vault)
    assert (world.whole() == before) == (ended.error != "")


def test_a_dump_that_postgresql_refuses_changes_nothing(world: VaultWorld, tmp_path: Path) -> None:
    before = world.whole()
    (tmp_path / "bad").write_bytes(b"no dump")
    write_archive(tmp_path / "bad.tar", {f"{name}.dump": tmp_path / "bad" for name in ("prefect", "mlflow")}, {})
    with pytest.raises(UnrollError, match="pg_restore ended with"):
        restore_backup(world.vault, tmp_path / "bad.tar", replace=True)
    assert world.whole() == before


def test_while_a_restore_is_under_way_nothing_is_started(world: VaultWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.vault.SECONDS_TO_WAIT", 1)
    with world.vault.locked(shared=False), pytest.raises(UnrollError, match="is under way"):
        settle(world.vault)
    with world.vault.locked(shared=True):  # a backup
        settle(world.vault)


def test_artifacts_of_another_place_are_not_served_beside_new_databases(
    world: VaultWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A start whose UNROLL_ARTIFACTS names another folder than the one in which a restore was cut short."""
    before = world.whole()
    with monkeypatch.context() as patched:
        patched.setattr("stack.restore._make", lambda connection: kill_now())
        assert in_child(restore_other(world)).was_killed
    elsewhere = Vault(world.vault.connection, str(world.folder / "elsewhere"), world.vault.data)
    with pytest.raises(UnrollError, match="UNROLL_ARTIFACTS"):
        settle(elsewhere)
    caplog.clear()
    settle(world.vault)
    assert "a restore was cut short before it was made" in caplog.text
    assert world.whole() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the container `tools` has it")
def test_a_start_that_is_not_root_undoes_what_root_began(world: VaultWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def start_as(user: int) -> None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        settle(world.vault)

    before, user = world.whole(), 54_321
    artifacts = Path(world.vault.artifacts)
    for path in (artifacts, *artifacts.rglob("*")):
        os.chown(path, user, user)
    monkeypatch.setattr("stack.restore._make", lambda connection: kill_now())
    assert in_child(restore_other(world)).was_killed
    assert in_child(lambda: start_as(user)).error == ""
    assert world.whole() == before
    os.chown(artifacts, 0, 0)


def test_what_an_earlier_version_left_is_said_and_not_started_on(world: VaultWorld) -> None:
    before = world.whole()
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    here, aside = sql.Identifier("prefect"), sql.Identifier("prefect_replaced")
    with world.vault.connect() as connection:
        connection.execute(rename.format(here, aside))
    with pytest.raises(UnrollError, match="earlier version"):
        settle(world.vault)
    other = "red" if before == "blue" else "blue"
    restore_backup(world.vault, world.folder / f"{other}.tar", replace=True)
    assert world.whole() == other
