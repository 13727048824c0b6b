"""Whole pipelines by the real command on a real private Prefect server: what is run, skipped, recorded and served."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STAGES = ["download", "validate", "encode", "train", "evaluate", "register"]
KEYS = {
    "": {
        *("project", "config", "flow_run_id", "mlflow_run_id", "stages", "data", "metrics", "rival", "model"),
        *("training", "seconds"),
    },
    "data": {"digest", "train", "validation", "test"},
    "model": {"name", "version", "decision", "reason", "weights_sha256"},
    "training": {
        *("seconds", "steps", "tokens_per_second", "device", "precision", "gradient_norm_p50", "clipped_fraction"),
        "resumed_from_step",
    },
}
NOISE = ("Warning", "alembic", "INFO ", "it/s]", "httpx", "Traceback", "\x1b", "prefect.", "mlflow.")

READ_HISTORY = """
import json, sys
from flows.embedded import prefect_server, prepare_environment, workplace
place = workplace()
prepare_environment(place)
with prefect_server(place):
    from prefect.client.orchestration import get_client
    with get_client(sync_client=True) as client:
        flows = {str(run.id): run.state.type.value for run in client.read_flow_runs(limit=200)}
        tasks = [[str(run.flow_run_id), run.name, run.state.type.value, run.state.name]
                 for run in client.read_task_runs(limit=200)]
        wanted = {"flow_run_id": {"any_": sys.argv[1:]}}
        logs = client.request("POST", "/logs/filter", json={"logs": wanted, "limit": 200}).json()
print(json.dumps([flows, tasks, [line["message"] for line in logs]]))
"""

LOAD_MODELS = """
import json, os, sys
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
texts = ["a good film", "I expected a bore, but it was a delight."]
classifier = mlflow.pyfunc.load_model("models:/unroll-sentiment@champion")
frames = [classifier.predict(texts), classifier.predict(pd.DataFrame({"text": texts}))]
writer = mlflow.pyfunc.load_model("models:/unroll-language-model@champion")
params = {"length": 40, "temperature": 0.7, "seed": 5}
def write(**more): return writer.predict(["The "], params={**params, **more})["text"][0]
passages = [write(), write(), write(seed=6), write(stop=["e"], length=400), write(temperature=0.0)]
print(json.dumps([[frame.to_dict(orient="list") for frame in frames], passages]))
"""


# Each run builds on the one before, so each is a fixture that asks for it.
@pytest.fixture(scope="module")
def first(shared_command: Any) -> Any:
    return shared_command.run("all")


@pytest.fixture(scope="module")
def repeated(shared_command: Any, first: Any) -> Any:
    ran = shared_command.run("all")
    print(f"all stages of both projects skipped: {ran.seconds:.1f} s")
    return ran


@pytest.fixture(scope="module")
def changed(shared_command: Any, repeated: Any) -> Any:
    return shared_command.run("all", "--set", "training.learning_rate=0.002")


@pytest.fixture(scope="module")
def forced(shared_command: Any, changed: Any) -> Any:
    return shared_command.run("sentiment", "--from", "evaluate")


def test_the_summary_has_exactly_the_promised_keys(first: Any) -> None:
    for summary, metric in zip(first.summaries, ("test/accuracy", "test/bits_per_char"), strict=True):
        assert set(summary) == KEYS[""]
        for part in ("data", "model", "training"):
            assert set(summary[part]) == KEYS[part]
        assert [stage["name"] for stage in summary["stages"]] == STAGES
        assert all(set(stage) == {"name", "skipped", "reason", "seconds"} for stage in summary["stages"])
        assert set(summary["rival"]) <= {"name", *summary["metrics"]}, "only metrics that the model has too"
        for interval in (summary["metrics"][metric], summary["rival"][metric]):
            assert set(interval) == {"value", "low", "high"}
            assert interval["low"] <= interval["value"] <= interval["high"]
        assert summary["config"]["training"]["epochs"] == 1
        assert len(summary["model"]["weights_sha256"]) == 64
        assert summary["training"]["steps"] > 0
        assert summary["training"]["resumed_from_step"] is None
    assert [summary["project"] for summary in first.summaries] == ["sentiment", "language_model"]


def test_the_first_run_does_everything_and_crowns_the_first_version(first: Any) -> None:
    assert first.skipped() == [[], []]
    for summary in first.summaries:
        assert (summary["model"]["version"], summary["model"]["decision"]) == ("1", "promoted")
        assert summary["data"]["train"] > summary["data"]["test"] > 0


def test_what_a_person_reads_is_ours_fits_the_terminal_and_holds_no_noise(first: Any) -> None:
    for text in (first.log, first.output):
        assert not [line for line in text.splitlines() for noise in NOISE if noise in line]
    assert max(map(len, first.output.splitlines())) <= 80
    for words in ("accuracy", "bits per character", "rival", "unroll-sentiment version 1", "unroll ui"):
        assert words in first.output
    assert first.output.count("generated at temperature 0.8\n") == 1
    for stage in STAGES:
        assert first.log.count(f"{stage}: running; never made here") == 2
    assert all(line[:6].strip().replace(".", "").isdigit() for line in first.log.splitlines())


def test_the_passage_on_the_terminal_is_the_one_in_mlflow(shared_command: Any, first: Any) -> None:
    run_id = first.summaries[1]["mlflow_run_id"]
    (path,) = shared_command.home.glob(f"mlartifacts/**/{run_id}/**/passage_temperature_*.txt")
    assert path.name == "passage_temperature_0.8.txt"
    passage = path.read_text(encoding="utf-8")
    assert passage.startswith("The ")
    assert "".join(passage.split()) in "".join(first.output.split())


def test_the_same_command_again_skips_all_and_changes_nothing(first: Any, repeated: Any) -> None:
    assert repeated.skipped() == [STAGES, STAGES]
    for stage in STAGES:
        assert repeated.log.count(f"{stage}: skipped; inputs, settings and code unchanged") == 2
    for before, now in zip(first.summaries, repeated.summaries, strict=True):
        for part in ("mlflow_run_id", "model", "metrics", "rival", "data", "training", "config"):
            assert now[part] == before[part]
        assert now["flow_run_id"] != before["flow_run_id"]


def test_every_task_run_and_line_is_in_the_history_afterwards(shared_command: Any, first: Any, repeated: Any) -> None:
    answer = shared_command.python(READ_HISTORY, first.summaries[0]["flow_run_id"])
    flows, tasks, lines = json.loads(answer.stdout)
    for stage in STAGES:  # our own lines: once in the page, once for each of the two projects on the terminal
        assert sum(line.startswith(f"{stage}: running") for line in lines) == 1
        assert first.log.count(f"{stage}: running") == 2
    for ran, ending in ((first, "Completed"), (repeated, "Skipped")):
        for summary in ran.summaries:
            assert flows[summary["flow_run_id"]] == "COMPLETED"
            found = {name: (kind, state) for flow, name, kind, state in tasks if flow == summary["flow_run_id"]}
            assert found == {**dict.fromkeys(STAGES, ("COMPLETED", ending)), "report": ("COMPLETED", "Completed")}


def test_a_changed_learning_rate_trains_again_and_says_why(repeated: Any, changed: Any) -> None:
    assert changed.skipped() == [["download", "validate", "encode"]] * 2
    for before, now in zip(repeated.summaries, changed.summaries, strict=True):
        rate = before["config"]["training"]["learning_rate"]
        assert f"train: running; training.learning_rate changed from {rate} to 0.002\n" in changed.log
        assert now["model"]["version"] == "2"
        assert now["mlflow_run_id"] != before["mlflow_run_id"]
        assert now["data"] == before["data"]
        assert now["model"]["weights_sha256"] != before["model"]["weights_sha256"]


def test_a_second_version_is_judged_against_the_champion_by_a_paired_test(changed: Any) -> None:
    for summary, test in zip(changed.summaries, ("McNemar", "bootstrap"), strict=True):
        assert summary["model"]["decision"] in ("promoted", "held", "rejected")
        assert test in summary["model"]["reason"]
    assert changed.log.count("scoring the champion, version 1, on the same test items") == 2


def test_from_evaluate_runs_that_stage_and_those_after_it(first: Any, forced: Any) -> None:
    assert forced.skipped() == [["download", "validate", "encode", "train"]]
    assert "evaluate: running; asked for by --from evaluate" in forced.log
    assert forced.summaries[0]["metrics"] == first.summaries[0]["metrics"]
    assert forced.summaries[0]["model"]["version"] == "1"


def test_a_registered_model_predicts_and_generates_in_a_fresh_process(shared_command: Any, forced: Any) -> None:
    home = shared_command.home
    environment = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    answer = shared_command.python(LOAD_MODELS, f"sqlite:///{home}/mlflow.db", environment=environment)
    assert answer.returncode == 0, answer.stderr
    assert "Warning" not in answer.stderr
    (as_list, as_frame), passages = json.loads(answer.stdout)
    assert as_list == as_frame
    assert set(as_list) == {"label", "probability_negative", "probability_positive"}
    for label, negative, positive in zip(*as_list.values(), strict=True):
        assert math.isclose(negative + positive, 1)
        assert label == ("positive" if positive > negative else "negative")
    plain, again, other_seed, stopped, _ = passages
    assert plain == again != other_seed
    assert plain.startswith("The ")
    assert len(plain) == len("The ") + 40
    assert stopped.endswith("e")
    assert "e" not in stopped[len("The ") : -1]


def test_a_registered_model_holds_no_pickle(shared_command: Any, forced: Any) -> None:
    folders = {path.parent for path in shared_command.home.glob("mlartifacts/**/MLmodel")}
    assert len(folders) == 4  # two versions of each
    for folder in folders:
        names = [path.name for path in folder.rglob("*") if path.is_file()]
        assert "model.safetensors" in names or "weights.safetensors" in names
        assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib"))]


def test_models_are_listed_and_shown(shared_command: Any, forced: Any) -> None:
    listed = shared_command("models", "list")
    assert listed.returncode == 0
    for words in ("unroll-sentiment", "unroll-language-model", "champion", "accuracy", "bits per char"):
        assert words in listed.stdout
    assert max(map(len, listed.stdout.splitlines())) <= 80
    shown = shared_command("models", "show", "unroll-sentiment/2")
    assert "unroll-sentiment version 2" in shown.stdout
    assert "McNemar" in " ".join(shown.stdout.split())
    missing = shared_command("models", "show", "unroll-sentiment/9")
    assert missing.returncode == 1
    assert "no version, alias or run '9'" in missing.stderr


def test_texts_are_classified_a_line_each(shared_command: Any, forced: Any) -> None:
    answer = shared_command("predict", "a good film", "never seen wordz", "two\nlines", "")
    assert answer.returncode == 0, answer.stderr
    rows = [line.split("\t") for line in answer.stdout.splitlines()]
    assert [row[2] for row in rows] == ["a good film", "never seen wordz", "two lines", ""]
    for label, prob, _ in rows:
        assert label in ("negative", "positive")
        assert 0.5 <= float(prob) <= 1


@pytest.mark.parametrize(("read_as", "written_as"), [("csv", "parquet"), ("jsonl", "csv"), ("parquet", "jsonl")])
def test_files_are_classified_chunk_by_chunk_into_any_kind(
    shared_command: Any, forced: Any, read_as: str, written_as: str
) -> None:
    folder = shared_command.folder
    texts = ["a good film", 'a bad film, "with" commas', "zwei\nZeilen, caf\u00e9"] * 2_000
    frame = pd.DataFrame({"id": [str(number) for number in range(len(texts))], "review": texts, "label": "mine"})
    source, target = folder / f"texts.{read_as}", folder / f"labelled-{read_as}.{written_as}"
    {
        "csv": lambda: frame.to_csv(source, index=False),
        "jsonl": lambda: frame.to_json(source, orient="records", lines=True),
        "parquet": lambda: frame.to_parquet(source),
    }[read_as]()
    answer = shared_command("predict", "-i", str(source), "-o", str(target), "--text-column", "review")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == ""
    found = {
        "csv": lambda: pd.read_csv(target, dtype={"id": str}),
        "jsonl": lambda: pd.read_json(target, lines=True, dtype={"id": str}),
        "parquet": lambda: pd.read_parquet(target),
    }[written_as]()
    assert found["review"].tolist() == texts
    assert found["id"].tolist() == frame["id"].tolist()
    assert set(found["label"]) == {"mine"}
    assert set(found["predicted_label"]) <= {"negative", "positive"}
    sums = found["probability_negative"] + found["probability_positive"]
    assert sums.between(0.999, 1.001).all()
    assert not shared_command.half_made()


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_a_column_whose_type_shows_late_is_written_with_it(shared_command: Any, forced: Any, suffix: str) -> None:
    source, target = shared_command.folder / f"late.{suffix}", shared_command.folder / f"late-{suffix}.parquet"
    stars = [None] * 5_500 + [1, 2, 5]
    frame = pd.DataFrame({"text": "a good film", "stars": pd.array(stars, "Int64")})
    frame.to_parquet(source) if suffix == "parquet" else frame.to_json(source, orient="records", lines=True)
    answer = shared_command("predict", "-i", str(source), "-o", str(target))
    assert answer.returncode == 0, answer.stderr
    found = pd.read_parquet(target)["stars"]
    assert found.iloc[-3:].tolist() == [1, 2, 5]
    assert found.isna().sum() == 5_500


def test_a_file_that_breaks_in_its_middle_leaves_no_output(shared_command: Any, forced: Any) -> None:
    source, target = shared_command.folder / "broken.jsonl", shared_command.folder / "never.csv"
    source.write_text('{"text": "a good film"}\n' * 6_000 + '{"text": 7}\n', encoding="utf-8")
    answer = shared_command("predict", "-i", str(source), "-o", str(target))
    assert answer.returncode == 1
    assert "row 6,001" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not target.exists()
    assert not shared_command.half_made()


def test_text_is_generated_by_a_seed_and_unknown_characters_only_warn(shared_command: Any, forced: Any) -> None:
    def generate(*arguments: str) -> Any:
        return shared_command("generate", "The \u2603 ", "--length", "60", *arguments)

    answer, again = generate("--seed", "3"), generate("--seed", "3")
    assert answer.returncode == 0
    assert "never saw '\u2603'" in answer.stderr
    assert answer.stdout == again.stdout
    assert answer.stdout.startswith("The \u2603 ")
    assert len(answer.stdout) == len("The \u2603 ") + 60 + 1
    several = generate("--seed", "3", "--count", "2").stdout.split("\n---\n")
    assert several[0] == answer.stdout.rstrip("\n")
    assert several[0] != several[1]


def test_generate_refuses_settings_out_of_bounds(shared_command: Any, forced: Any) -> None:
    answer = shared_command("generate", "The ", "--top-p", "1.5")
    assert answer.returncode == 1
    assert "top_p is 1.5; expected above 0, at most 1" in answer.stderr
    assert answer.stdout == ""


def test_clean_keeps_what_a_repeated_run_needs_and_drops_the_rest(shared_command: Any, forced: Any) -> None:
    store = shared_command.home / "store"
    orphan = next(store.glob("sentiment/encode/*/manifest.json")).parent
    copy = orphan.with_name("0" * 32)
    copy.mkdir()
    (copy / "manifest.json").write_text((orphan / "manifest.json").read_text().replace('"stage"', '"stage" '))
    (shared_command.home / "work" / "sentiment" / f"train-{'1' * 32}").mkdir(parents=True)
    dry = shared_command("clean", "--dry-run")
    assert dry.stdout.count("would drop") == 2
    assert copy.exists()
    done = shared_command("clean")
    assert done.returncode == 0
    assert done.stdout.count("dropped store/sentiment/encode/000") == 1
    assert done.stdout.count("dropped work/sentiment/train-111") == 1
    assert not copy.exists()
    after = shared_command.run("sentiment")
    assert after.skipped() == [STAGES]
