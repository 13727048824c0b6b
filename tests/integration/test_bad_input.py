"""What a user can get wrong: one message (found, expected, what to do), the right exit code, nothing half-made."""

from __future__ import annotations

import csv
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

SMALL = ("--set", "training.epochs=1", "--set", "model.hidden_size=8", "--set", "evaluation.bootstrap_samples=100")
REVIEWS = [
    (f"a {word} film number {number}", label) for number in range(150) for word, label in (("good", 1), ("bad", 0))
]


def write_csv(path: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = ("text", "label")) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def assert_refused(command: Any, answer: Any, *said: str, exit_code: int = 1) -> None:
    """One message with all that is to be said, no traceback, no result, and nothing half-made."""
    assert answer.returncode == exit_code, answer.stderr
    message = answer.stderr[answer.stderr.index("Error: ") :]
    for words in said:
        assert words in message
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""
    assert not command.half_made()


def assert_nothing_began(command: Any, answer: Any, *said: str, exit_code: int = 1) -> None:
    assert_refused(command, answer, *said, exit_code=exit_code)
    assert "Prefect" not in answer.stderr
    assert not command.home.exists()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "training.learning_rte=0.1",
            ["unknown setting training.learning_rte", "did you mean training.learning_rate?"],
        ),
        ("learning_rate=0.1", ["unknown setting learning_rate", "training.learning_rate"]),
        ("training.learning_rate=fast", ["training.learning_rate", "'fast'"]),
        ("training.learning_rate=-1", ["training.learning_rate", "greater than 0", "-1"]),
        ("model.hidden_size=0", ["model.hidden_size", "greater than or equal to 1", "0"]),
        ("data.validation_fraction=0.7", ["data.validation_fraction", "less than 0.5", "0.7"]),
        ("model.cell=transformer", ["model.cell", "'lstm'", "'transformer'"]),
        ("training.learning_rate", ["section.key=value"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_right(command: Any, setting: str, said: list[str]) -> None:
    assert_nothing_began(command, command("run", "sentiment", "--set", setting), *said, exit_code=2)


def test_unknown_presets_stages_and_config_files_are_answered_with_those_there_are(command: Any) -> None:
    preset = command("run", "language-model", "--config", "smple")
    assert_nothing_began(command, preset, "no preset 'smple' for language_model", "fast", "sample", exit_code=2)
    stage = command("run", "sentiment", "--from", "training")
    stages = "download, validate, encode, train, evaluate, register"
    assert_nothing_began(command, stage, "no stage 'training'", stages, exit_code=2)
    file = command("run", "sentiment", "--config", "mine.yaml")
    assert_nothing_began(command, file, "no config file mine.yaml", exit_code=2)
    (command.folder / "mine.yaml").write_text("training: [unclosed")
    broken = command("run", "sentiment", "--config", "mine.yaml")
    assert_nothing_began(command, broken, "mine.yaml is not a YAML file", exit_code=2)
    summary = command("run", "sentiment", "--summary", "nowhere/summary.json")
    assert_nothing_began(command, summary, "no folder nowhere", exit_code=2)


@pytest.mark.parametrize("project", ["sentiment", "language-model"])
def test_a_missing_or_empty_file_is_found_before_anything_begins(command: Any, project: str) -> None:
    missing = command("run", project, "--set", "data.source=reviews.csv")
    assert_nothing_began(command, missing, "no file or folder reviews.csv", "sample")
    (command.folder / "reviews.csv").touch()
    empty = command("run", project, "--set", "data.source=reviews.csv")
    assert_nothing_began(command, empty, "reviews.csv is empty (0 bytes)")
    test = command("run", project, "--set", "data.test_source=held-out.csv")
    assert_nothing_began(command, test, "no file or folder held-out.csv")


def test_a_file_of_another_shape_is_found_before_anything_begins(command: Any) -> None:
    def run(name: str, *settings: str, project: str = "sentiment") -> Any:
        return command("run", project, "--set", f"data.source={name}", *settings)

    write_csv(command.folder / "columns.csv", REVIEWS, ("review_text", "label"))
    columns = run("columns.csv", "--set", "data.text_column=review_txt")
    assert_nothing_began(
        command, columns, "no column 'review_txt'", "'review_text', 'label'", "data.text_column=review_text?"
    )
    write_csv(command.folder / "header.csv", [])
    assert_nothing_began(command, run("header.csv"), "header.csv", "no rows", "expected labelled texts")
    (command.folder / "binary.txt").write_bytes(b"\x00\x01\x02" * 5_000)
    binary = run("binary.txt", project="language-model")
    assert_nothing_began(command, binary, "binary.txt is binary", "expected UTF-8 text")
    (command.folder / "latin.csv").write_bytes("text,label\ncaf\u00e9,1\n".encode("latin-1"))
    assert_nothing_began(command, run("latin.csv"), "latin.csv is not UTF-8", "0xe9", "iconv")
    (command.folder / "reviews.xls").write_bytes(b"an old format")
    assert_nothing_began(command, run("reviews.xls"), "'.xls'", ".csv", ".parquet")


def test_a_working_folder_that_cannot_be_written_is_named(command: Any) -> None:
    (command.folder / "a-file").touch()
    for home in ("/dev/null/unroll", str(command.folder / "a-file" / "unroll")):
        answer = command("run", "sentiment", environment={"UNROLL_HOME": home})
        assert_nothing_began(command, answer, f"working folder {home} cannot be written", "UNROLL_HOME")


def test_servers_that_do_not_answer_are_named_at_once(command: Any) -> None:
    dead = "http://127.0.0.1:9"
    write_csv(command.folder / "texts.csv", REVIEWS)
    started = time.monotonic()
    for variable, url, arguments in (
        ("PREFECT_API_URL", f"{dead}/api", ["run", "sentiment"]),
        ("MLFLOW_TRACKING_URI", dead, ["run", "sentiment"]),
        ("MLFLOW_TRACKING_URI", dead, ["predict", "a text"]),
        ("MLFLOW_TRACKING_URI", dead, ["models", "list"]),
        ("PREFECT_API_URL", f"{dead}/api", ["score", "texts.csv", "scores"]),
        ("MLFLOW_TRACKING_URI", dead, ["score", "texts.csv", "scores"]),
    ):
        answer = command(*arguments, environment={variable: url})
        assert_nothing_began(command, answer, f"{variable} names {url}", "does not answer", f"unset {variable}")
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "a text"],
        ["generate", "The "],
        ["models", "list"],
        ["models", "show", "unroll-sentiment"],
        ["models", "history"],
        ["models", "rollback"],
        ["models", "promote", "unroll-sentiment/1", "--reason", "why not"],
    ],
)
def test_without_any_model_there_is_a_way_out_and_no_folder(command: Any, arguments: list[str]) -> None:
    answer = command(*arguments)
    assert_nothing_began(command, answer, "No model is registered", "unroll run")


def test_predict_refuses_a_file_before_it_looks_for_a_model(command: Any) -> None:
    source = write_csv(command.folder / "texts.csv", REVIEWS, ("review", "label"))

    def predict(name: str = source, output: str = "out.csv", *more: str) -> Any:
        return command("predict", "--input", name, "--output", output, *more)

    assert_nothing_began(command, predict("gone.csv"), "no file gone.csv")
    assert_nothing_began(command, predict(), "no column 'text'", "review, label")
    near = predict(source, "out.csv", "--text-column", "reviews")
    assert_nothing_began(command, near, "no column 'reviews'", "did you mean --text-column review?")
    assert_nothing_began(command, predict(source, "out.xlsx"), "out.xlsx", ".parquet", exit_code=2)
    assert_nothing_began(command, predict(source, "nowhere/out.csv"), "no folder nowhere", exit_code=2)
    header = write_csv(command.folder / "header.csv", [])
    assert_nothing_began(command, predict(header), "no rows", "expected texts")
    assert sorted(path.name for path in command.folder.iterdir()) == ["header.csv", "texts.csv"]


def test_score_refuses_a_file_or_a_folder_before_it_looks_for_a_model(command: Any) -> None:
    source = write_csv(command.folder / "texts.csv", REVIEWS, ("review", "label"))

    def score(name: str = source, output: str = "scores", *more: str) -> Any:
        return command("score", name, output, *more)

    assert_nothing_began(command, score("gone.csv"), "no file gone.csv")
    assert_nothing_began(command, score(), "no column 'text'", "review, label")
    near = score(source, "scores", "--text-column", "reviews")
    assert_nothing_began(command, near, "no column 'reviews'", "did you mean --text-column review?")
    column = ("--text-column", "review")
    assert_nothing_began(command, score(source, source, *column), "is a file", exit_code=2)
    assert_nothing_began(command, score(source, "nowhere/scores", *column), "no folder nowhere", exit_code=2)
    assert_nothing_began(command, score(source, ".", *column), "no folder of scores", exit_code=2)
    header = write_csv(command.folder / "header.csv", [])
    assert_nothing_began(command, score(header), "no rows", "expected texts")
    assert_nothing_began(command, score(source, "scores", *column), "No model is registered", "unroll run")
    assert sorted(path.name for path in command.folder.iterdir()) == ["header.csv", "texts.csv"]


@pytest.mark.slow
def test_rows_that_cannot_be_learned_from_are_counted_and_placed(shared_command: Any) -> None:
    folder = shared_command.folder
    unlabelled = write_csv(folder / "unlabelled.csv", [*REVIEWS, ("a film", "")])
    answer = shared_command("run", "sentiment", *SMALL, "--set", f"data.source={unlabelled}")
    assert_refused(shared_command, answer, "1 of 301 rows have no 'label'", "row 301", "leave the row out")
    good = write_csv(folder / "reviews.csv", REVIEWS)
    unseen = write_csv(folder / "unseen.csv", [("a fine film", "1"), ("a film", "7")])
    answer = shared_command(
        "run", "sentiment", *SMALL, "--set", f"data.source={good}", "--set", f"data.test_source={unseen}"
    )
    assert_refused(shared_command, answer, "unseen.csv, row 2", "label '7'", "'0', '1'")
    assert shared_command.artifacts() == set()


@pytest.mark.slow
def test_a_flow_that_fails_marks_its_mlflow_run_failed(shared_command: Any) -> None:
    from mlflow import MlflowClient

    blank = write_csv(shared_command.folder / "blank.csv", [*REVIEWS, *[(" ", 1)] * 20])
    answer = shared_command("run", "sentiment", *SMALL, "--set", f"data.source={blank}")
    assert_refused(shared_command, answer, "not fit to train on", "6.25%", "train, row 301")
    assert shared_command.artifacts() == {"download", "validate"}
    client = MlflowClient(f"sqlite:///{shared_command.home}/mlflow.db")
    experiment = client.get_experiment_by_name("unroll-sentiment")
    assert experiment is not None
    newest = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]
    assert newest.info.status == "FAILED"
    assert newest.data.tags["unroll.error"].startswith("ValidationError: The corpus is not fit")
    again = shared_command("run", "sentiment", *SMALL, "--set", f"data.source={blank}", "--debug")
    assert again.returncode == 1
    assert "Traceback" in again.stderr
    assert "ValidationError" in again.stderr
    assert len(client.search_runs([experiment.experiment_id], "tags.`unroll.run_key` != ''")) >= 1
    assert client.get_run(newest.info.run_id).info.status == "FAILED"


@pytest.mark.faults
def test_a_file_size_limit_leaves_nothing_half_made(shared_command: Any) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6 << 20, 6 << 20))

    answer = shared_command("run", "language-model", *SMALL, "--set", "data.sample_size=4000000", before=limit)
    assert_refused(shared_command, answer, "beyond the limit", "Nothing half-made was kept", "ulimit -f")
    assert shared_command.artifacts("language_model") == set()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB; skips where this process may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "unroll-test", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system of its own can be mounted here; the full disk is not tried")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.faults
@pytest.mark.parametrize(("room", "unfinished"), [(1, "download"), (5, "train")])
def test_a_full_disk_leaves_nothing_half_made_and_the_same_command_goes_on_when_there_is_room(
    command: Any, small_disk: Path, room: int, unfinished: str
) -> None:
    from unroll.store import verify

    command.home.mkdir()
    for part in ("store", "work"):
        (small_disk / part).mkdir()
        (command.home / part).symlink_to(small_disk / part)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\1" * ((24 - room) << 20))
    settings = ("data.sample_size=400000", "model.hidden_size=256", "training.max_steps=3", "evaluation.rival=false")
    arguments = ["run", "language-model", *SMALL, *(part for each in settings for part in ("--set", each))]

    answer = command(*arguments)
    assert_refused(command, answer, "The disk is full", "unroll clean", "same command")
    assert f"{unfinished}: running" in answer.stderr
    assert unfinished not in command.artifacts("language_model")
    assert not [path for path in small_disk.rglob("*") if ".partial" in path.name]
    made = [path.parent for path in small_disk.glob("store/*/*/*/manifest.json")]
    assert all(verify(folder) for folder in made)

    ballast.unlink()
    again = command(*arguments)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count(": skipped;") == len(made)
