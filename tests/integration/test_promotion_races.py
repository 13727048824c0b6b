"""Many who promote at once and some who are killed, on a real MLflow server: one wins, all are told, nothing waits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.registry_world import BETTER, EQUAL, Place
from unroll.errors import RegistryError
from unroll.evaluation.comparison import Comparison
from unroll.evaluation.decisions import stand

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(300)]

PROMOTE = """
import json, os, signal, sys, threading, time
from pathlib import Path
from tasks.ledger import Ledger
from tasks.promotion import Promotions
from tasks.registry import ModelRegistry
from unroll.errors import RegistryError
from unroll.models import saved  # once, rather than by every thread
url, name, folder, kill, *numbers = sys.argv[1:]
folder = Path(folder)
append = Ledger.append
def die(): os.kill(os.getpid(), signal.SIGKILL)
def wait_and_append(self, entry):
    (folder / f"ready-{entry.version}").touch()
    while not (folder / "go").exists(): time.sleep(0.05)
    if kill == "before the append": die()
    appended = append(self, entry)
    if kill == "after the append": die()
    return appended
Ledger.append = wait_and_append
def promote(number):
    registry = ModelRegistry(url)
    promotions = Promotions(registry, name, folder / "store")
    if kill == "after the alias":
        client = promotions._ledger._client
        set_alias = client.set_registered_model_alias
        client.set_registered_model_alias = lambda *values: (set_alias(*values), die())
    try:
        answers[number] = promotions.promote(registry.version(name, number), "me first").number
    except RegistryError as error:
        answers[number] = str(error)
answers = {}
threads = [threading.Thread(target=promote, args=(number,)) for number in numbers]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(answers))
"""


def start_promoting(place: Place, folder: Path, kill: str, numbers: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROMOTE, place.server.url, place.name, str(folder), kill, *numbers]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def wait_until_ready(folder: Path, count: int, processes: list[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + 240
    while len(list(folder.glob("ready-*"))) < count:
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes), [p.communicate() for p in processes]
        time.sleep(0.05)


def test_of_twenty_promotions_at_once_one_wins_and_all_are_told(place: Place, tmp_path: Path) -> None:
    place.judge(place.make(1))
    numbers = place.add_versions(20)
    shares = [numbers[start::4] for start in range(4)]
    processes = [start_promoting(place, tmp_path, "", share) for share in shares]
    try:
        wait_until_ready(tmp_path, 20, processes)
        (tmp_path / "go").touch()
        outputs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    answers = {number: answer for output, _ in outputs for number, answer in json.loads(output).items()}
    (winner,) = [number for number, answer in answers.items() if isinstance(answer, int)]
    assert len(answers) == 20
    for number in set(numbers) - {winner}:
        assert f"meanwhile version {winner} was promoted by" in answers[number]
    entries = place.promotions.entries()
    standing = stand(entries)
    assert [entry.number for entry in entries] == list(range(1, 22))
    assert {entry.version for entry in entries} == {"1", *numbers}
    assert standing.champion == winner == place.champion
    assert standing.move == answers[winner] == 2
    assert standing.overtaken == set(range(3, 22))
    assert place.promotions.look().followed == standing.move
    copied = (tmp_path / "store" / "ledger" / f"{place.name}.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["number"] for line in copied) == list(range(1, 22))


@pytest.mark.parametrize("kill", ["before the append", "after the append", "after the alias"])
def test_a_kill_at_any_instant_leaves_a_decision_or_none(place: Place, tmp_path: Path, kill: str) -> None:
    place.judge(place.make(1))
    (number,) = place.add_versions(1)
    (tmp_path / "go").touch()
    process = start_promoting(place, tmp_path, kill, [number])
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    decided = kill != "before the append"
    assert place.champion == (number if kill == "after the alias" else "1")
    title = place.promotions.look()
    assert title.standing.champion == title.alias == place.champion == (number if decided else "1")
    assert title.followed == title.standing.move == (2 if decided else 1)
    assert place.judge(place.make(2), BETTER)["outcome"] == "promoted", "nobody waits for the dead"


def test_two_flows_that_promote_at_once_one_wins_the_other_is_told(place: Place) -> None:
    place.judge(place.make(1))
    first, second = place.make(2), place.make(3)

    def compare_slowly(*_: Any) -> Comparison:
        """Meanwhile another flow is done with its own comparison."""
        place.judge(second, BETTER)
        return BETTER

    with pytest.raises(RegistryError, match=r"did not become champion: meanwhile version 3 was promoted.*run again"):
        place.judge(first, compare_slowly)
    assert place.champion == "3"
    assert place.judge(first, EQUAL)["outcome"] == "held", "run again, it is compared with the new champion"


def test_a_decision_sent_twice_counts_once(place: Place) -> None:
    place.judge(place.make(1))
    place.judge(place.make(2), BETTER)
    ledger = f"{place.name}.ledger"
    sent = place.client.get_model_version(ledger, "2")
    place.client.create_model_version(ledger, sent.source, tags=sent.tags, await_creation_for=0)
    place.client.create_model_version(ledger, sent.source, tags=sent.tags, await_creation_for=0)
    title = place.promotions.look()
    assert title.standing.champion == "2"
    assert title.standing.overtaken == {3, 4}
    assert place.promotions.roll_back(None, "back").version == "1"


def test_evidence_longer_than_a_tag_is_kept_whole(place: Place) -> None:
    place.judge(place.make(1))
    reason = "it is better, " * 1_000
    (number,) = place.add_versions(1)
    place.promotions.promote(place.registry.version(place.name, number), reason)
    assert place.promotions.entries()[-1].reason == reason
    tags = place.client.get_model_version(f"{place.name}.ledger", "2").tags
    assert max(map(len, tags.values())) <= 4_900
