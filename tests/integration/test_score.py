"""The batch-scoring flow by the real command: killed at any instant it goes on to the same bytes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.command import CALL_MAIN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WORDS = ["a", "good", "bad", "film", "never", "dull", "moving", "expected", "but", "it", "was", "great"]
ROWS = 30_000
PART_ROWS = "250"
KILLS = 3


@pytest.fixture(scope="module")
def trained(served_command: Any) -> Any:
    """Both projects trained, and a file to score."""
    served_command.run("all")
    chance = random.Random(1)
    with (served_command.folder / "texts.jsonl").open("w") as file:
        for number in range(ROWS):
            text = " ".join(chance.choices(WORDS, k=chance.randint(0, 120)))
            file.write(json.dumps({"id": number, "text": text if number % 97 else None}) + "\n")
    return served_command


@pytest.fixture(scope="module")
def straight(trained: Any) -> dict[str, bytes]:
    """What scoring makes that nobody stops."""
    answer = trained("score", "texts.jsonl", "straight", "--part-rows", PART_ROWS)
    assert answer.returncode == 0, answer.stderr
    assert f"{ROWS:,} rows in {ROWS // int(PART_ROWS)} parts" in answer.stdout
    assert "/s, " in answer.stderr  # rate, and time left
    return contents(trained.folder / "straight")


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of the job and of every part."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "_manifest.json"}


def start_and_kill(command: Any, output: str, chance: random.Random) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CALL_MAIN, "score", "texts.jsonl", output, "--part-rows", PART_ROWS],
        cwd=command.folder,
        env=command.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    log = []
    for line in process.stderr:
        log.append(line)
        if "scoring texts.jsonl: " in line:
            break
    time.sleep(chance.uniform(0.1, 1.2))
    assert process.poll() is None, "".join(log)
    process.kill()
    process.wait()
    process.stderr.close()
    assert not (command.folder / output / "_manifest.json").exists(), "the file is too small to be killed over"


def test_killed_three_times_it_goes_on_to_the_same_bytes(trained: Any, straight: dict[str, bytes]) -> None:
    chance = random.Random(5)
    for _ in range(KILLS):
        start_and_kill(trained, "killed", chance)
    done = len(list((trained.folder / "killed").glob("part-*")))
    answer = trained("score", "texts.jsonl", "killed", "--part-rows", PART_ROWS)
    assert answer.returncode == 0, answer.stderr
    assert f"going on after {done} whole parts" in answer.stderr
    assert done > 0
    assert contents(trained.folder / "killed") == straight
    manifests = [json.loads((trained.folder / name / "_manifest.json").read_text()) for name in ("killed", "straight")]
    assert manifests[0]["last_run"]["rows"] == ROWS - done * int(PART_ROWS)
    for manifest in manifests:
        del manifest["last_run"]
    assert manifests[0] == manifests[1]
    scores = pd.read_parquet(trained.folder / "killed")
    assert scores["row"].tolist() == list(range(1, ROWS + 1))
    assert scores["id"].tolist() == list(range(ROWS))


def test_scored_again_there_is_nothing_to_do_and_another_job_is_refused(
    trained: Any, straight: dict[str, bytes]
) -> None:
    again = trained("score", "texts.jsonl", "straight", "--part-rows", PART_ROWS)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr
    other = trained("score", "texts.jsonl", "straight")
    assert other.returncode == 2
    assert "part_rows was 250, is 10000" in other.stderr
    assert "--overwrite" in other.stderr
    assert "Traceback" not in other.stderr
    assert contents(trained.folder / "straight") == straight


def test_a_language_model_is_refused_in_words(trained: Any) -> None:
    answer = trained("score", "texts.jsonl", "bits", "--model", "unroll-language-model@champion")
    assert answer.returncode == 1
    assert "needs a sentiment model" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (trained.folder / "bits").exists()


def test_a_job_keeps_the_version_it_was_begun_with_when_the_champion_changes(
    trained: Any, straight: dict[str, bytes]
) -> None:
    start_and_kill(trained, "changed", random.Random(6))
    trained.run("sentiment", "--set", "training.learning_rate=0.002")
    promoted = trained("models", "promote", "unroll-sentiment/2", "--reason", "to see what becomes of jobs under way")
    assert promoted.returncode == 0, promoted.stderr
    answer = trained("score", "texts.jsonl", "changed", "--part-rows", PART_ROWS)
    assert answer.returncode == 0, answer.stderr
    assert "champion of unroll-sentiment is version 2 by now; going on with version 1" in answer.stderr
    assert contents(trained.folder / "changed") == straight
    finished = trained("score", "texts.jsonl", "changed", "--part-rows", PART_ROWS)
    assert finished.returncode == 2
    assert "model_version was 1, is 2" in finished.stderr
    anew = trained("score", "texts.jsonl", "changed", "--part-rows", "20000", "--overwrite")
    assert anew.returncode == 0, anew.stderr
    assert set(pd.read_parquet(trained.folder / "changed")["model_version"]) == {"2"}


def test_an_output_that_cannot_be_written_is_named(trained: Any) -> None:
    answer = trained("score", "texts.jsonl", "/proc/scores")
    assert answer.returncode == 1
    assert "/proc/scores cannot be written" in answer.stderr
    assert "registry" not in answer.stderr  # told before anything is opened
    assert "Traceback" not in answer.stderr


def test_the_flow_has_left_its_history(trained: Any, straight: dict[str, bytes]) -> None:
    script = """
import json
from flows.embedded import prefect_server, prepare_environment, workplace
place = workplace()
prepare_environment(place)
with prefect_server(place):
    from prefect.client.orchestration import get_client
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(limit=200)
        print(json.dumps([[run.name, run.state.type.value] for run in runs if run.name.startswith("score ")]))
"""
    answer = trained.python(script)
    assert answer.returncode == 0, answer.stderr
    assert ["score texts.jsonl", "COMPLETED"] in json.loads(answer.stdout)
