"""Scoring in parts: every row once, the same bytes however often it was stopped, and never another job's rows."""

from __future__ import annotations

import errno
import json
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll import bulk_output
from unroll.bulk import DriftCheck
from unroll.bulk_input import TextTable, check_texts, free_name
from unroll.bulk_output import DRIFT_FILE, DRIFT_PLOT, JOB_FILE, MANIFEST_FILE, ScoringFolder, ScoringJob
from unroll.bulk_reviews import score_table
from unroll.config import AnyConfig, DriftConfig
from unroll.data.encoded import EncodedCorpus
from unroll.errors import ConfigError, DataError, InterruptedScoring, StoreError
from unroll.evaluation.drift import DriftReport
from unroll.prediction import SentimentPredictor
from unroll.reference import FILE_NAME, read_reference
from unroll.training.fit import train
from unroll.training.metrics import SilentLogger

TEXTS = ["a good film", None, 'a bad film, "with" commas', "two\nlines, caf\u00e9", "", "never " * 50, "NA"]
ROWS = 25


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def model_folder(
    small_config: Callable[..., AnyConfig], encoded_reviews: EncodedCorpus, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("model")
    config = small_config("sentiment", training={"max_steps": 5})
    train(config, encoded_reviews.folder, tmp_path_factory.mktemp("work"), folder, SilentLogger())
    return folder


@pytest.fixture(scope="module")
def predictor(model_folder: Path) -> SentimentPredictor:
    return SentimentPredictor.load(model_folder, torch.device("cpu"))


def write_rows(path: Path, rows: int = ROWS, **columns: Any) -> Path:
    texts = [TEXTS[number % len(TEXTS)] for number in range(rows)]
    plain = [{"id": f"{number:03d}", "text": text, **columns} for number, text in enumerate(texts)]
    if path.suffix == ".csv":
        pd.DataFrame(plain).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(plain), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in plain))
    return path


def make_job(texts: TextTable, **changed: Any) -> ScoringJob:
    job = ScoringJob(texts.sha256, texts.text_column, 10, "float32", "sentiment", "3", "w" * 64, "v" * 64)
    return replace(job, **changed)


def run(
    source: Path,
    output: Path,
    predictor: SentimentPredictor,
    overwrite: bool = False,
    drift: DriftCheck | None = None,
    **changed: Any,
) -> Any:
    texts, folder = TextTable.open(source, "text"), ScoringFolder(output)
    with folder.lock():
        return score_table(texts, predictor, make_job(texts, **changed), folder, drift or DriftCheck(None), overwrite)


def contents(folder: Path) -> dict[str, Any]:
    """The bytes of every file, but for what clocks say."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    if MANIFEST_FILE in found:
        found[MANIFEST_FILE] = {
            key: value for key, value in json.loads(found[MANIFEST_FILE]).items() if key != "last_run"
        }
    return found


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_row_comes_out_once_with_its_scores_and_their_origin(
    predictor: SentimentPredictor, tmp_path: Path, suffix: str
) -> None:
    manifest = run(write_rows(tmp_path / f"texts{suffix}"), tmp_path / "out", predictor)
    found = pd.read_parquet(tmp_path / "out")
    assert found["row"].tolist() == list(range(1, ROWS + 1))
    assert found["id"].tolist() == [f"{number:03d}" for number in range(ROWS)]
    given = [TEXTS[i % len(TEXTS)] or "" for i in range(ROWS)]
    assert found["text"].fillna("").tolist() == given
    expected = predictor.predict_table(given)
    assert found["label"].tolist() == expected["label"].tolist()
    for name in ("probability_negative", "probability_positive"):
        assert found[name].to_numpy() == pytest.approx(expected[name].to_numpy(), abs=1e-6)
    assert set(zip(found["model_name"], found["model_version"], found["model_digest"], strict=True)) == {
        ("sentiment", "3", "w" * 64)
    }
    assert [part["rows"] for part in manifest["parts"]] == [10, 10, 5]
    assert manifest["rows"] == sum(manifest["labels"].values()) == ROWS
    missing = 0 if suffix == ".csv" else 4  # CSV cannot tell missing from empty
    assert (manifest["missing_texts"], manifest["empty_texts"]) == (missing, 3 + 4 - missing)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(JOB_FILE, MANIFEST_FILE, DRIFT_FILE),
        *(f"part-0000{number}.parquet" for number in range(3)),
    }


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), part_rows=st.integers(1, 30), kills=st.integers(1, 4))
def test_stopped_anywhere_it_goes_on_to_the_same_bytes(
    predictor: SentimentPredictor, tmp_path_factory: pytest.TempPathFactory, seed: int, part_rows: int, kills: int
) -> None:
    place = tmp_path_factory.mktemp("place")
    source = write_rows(place / "texts.jsonl")
    run(source, place / "straight", predictor, part_rows=part_rows)
    chance = random.Random(seed)
    for _ in range(kills):
        left = chance.randint(0, 30)

        def die(*_: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed

        with pytest.MonkeyPatch.context() as patch:
            for name in ("replace", "fsync"):
                real = getattr(bulk_output.os, name)
                patch.setattr(bulk_output.os, name, lambda *values, real=real: (die(), real(*values))[1])
            with suppress(Killed):
                run(source, place / "out", predictor, part_rows=part_rows)
    run(source, place / "out", predictor, part_rows=part_rows)
    assert contents(place / "out") == contents(place / "straight")


def test_parts_that_are_done_are_not_scored_again(
    predictor: SentimentPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = write_rows(tmp_path / "texts.csv"), tmp_path / "out"
    run(source, output, predictor)
    before = contents(output)
    (output / "part-00002.parquet").unlink()
    (output / MANIFEST_FILE).unlink()
    (output / ".part-00002.parquet.partial").write_bytes(b"PAR1 half")
    scored: list[int] = []
    real = predictor.predict_encoded
    monkeypatch.setattr(predictor, "predict_encoded", lambda texts, p: (scored.append(len(texts)), real(texts, p))[1])
    assert run(source, output, predictor)["last_run"]["rows"] == 5
    assert scored == [5]
    assert contents(output) == before
    run(source, output, predictor)
    assert scored == [5]


@pytest.mark.parametrize("damage", ["gone", "changed", "cut"])
@pytest.mark.parametrize("done", [True, False])
def test_a_part_that_is_not_as_it_was_written_is_made_anew(
    predictor: SentimentPredictor, tmp_path: Path, damage: str, done: bool
) -> None:
    source, output = write_rows(tmp_path / "texts.csv"), tmp_path / "out"
    run(source, output, predictor)
    before, part = contents(output), output / "part-00001.parquet"
    if not done:
        (output / MANIFEST_FILE).unlink()
    if damage == "gone":
        part.unlink()
    else:
        part.write_bytes(
            part.read_bytes()[:-9] if damage == "cut" else (output / "part-00000.parquet").read_bytes()[:99]
        )
    run(source, output, predictor)
    assert contents(output) == before


def test_another_job_is_refused_in_words_and_replaced_only_when_asked(
    predictor: SentimentPredictor, tmp_path: Path
) -> None:
    source, output = write_rows(tmp_path / "texts.csv"), tmp_path / "out"
    run(source, output, predictor)
    before = contents(output)
    for changed in ({"model_version": "4"}, {"precision": "bfloat16"}, {"part_rows": 7}, {"input_sha256": "0" * 64}):
        with pytest.raises(ConfigError, match=f"{next(iter(changed))} was .*--overwrite"):
            run(source, output, predictor, **changed)
        assert contents(output) == before
    run(source, output, predictor, overwrite=True, model_version="4", part_rows=20)
    assert len(pd.read_parquet(output)) == ROWS
    assert set(pd.read_parquet(output)["model_version"]) == {"4"}
    assert len(list(output.glob("part-*"))) == 2


def test_a_folder_of_other_things_is_never_touched(predictor: SentimentPredictor, tmp_path: Path) -> None:
    source, output = write_rows(tmp_path / "texts.csv"), tmp_path / "out"
    output.mkdir()
    (output / "part-00000.parquet").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"holds part-00000.parquet and no _job.json"):
            run(source, output, predictor, overwrite)
    assert contents(output) == {"part-00000.parquet": b"mine"}
    with pytest.raises(ConfigError, match="is a file"):
        ScoringFolder(source).check()
    with pytest.raises(ConfigError, match="no folder"):
        ScoringFolder(tmp_path / "no" / "out").check()


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    with ScoringFolder(tmp_path / "out").lock():
        with pytest.raises(StoreError, match="Another process"), ScoringFolder(tmp_path / "out").lock():
            pass
        assert (tmp_path / "out").is_dir()
    assert not (tmp_path / "out").exists()


def test_asked_to_stop_it_keeps_whole_parts(
    predictor: SentimentPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = write_rows(tmp_path / "texts.csv"), tmp_path / "out"
    real, calls = predictor.predict_encoded, []

    def predict(texts: Any, precision: str) -> Any:
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return real(texts, precision)

    monkeypatch.setattr(predictor, "predict_encoded", predict)
    with pytest.raises(InterruptedScoring, match="SIGTERM; 20 rows are scored") as stopped:
        run(source, output, predictor)
    assert stopped.value.exit_code == 143
    assert len(list(output.glob("part-*"))) == 2
    assert run(source, output, predictor)["last_run"]["rows"] == 5


def test_a_full_disk_is_told_and_what_was_written_is_gone_on_from(
    predictor: SentimentPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = write_rows(tmp_path / "texts.csv"), tmp_path / "out"
    real = pq.write_table

    def write(table: pa.Table, file: Any) -> None:
        if output.joinpath("part-00000.parquet").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(table, file)

    monkeypatch.setattr(pq, "write_table", write)
    with pytest.raises(StoreError, match="disk is full"):
        run(source, output, predictor)
    assert {path.name for path in output.iterdir()} == {JOB_FILE, "part-00000.parquet"}
    monkeypatch.setattr(pq, "write_table", real)
    assert run(source, output, predictor)["last_run"]["rows"] == ROWS - 10


def test_an_input_that_changes_meanwhile_is_told(
    predictor: SentimentPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_rows(tmp_path / "texts.csv")
    real = predictor.predict_encoded
    monkeypatch.setattr(
        predictor, "predict_encoded", lambda texts, p: (write_rows(source, rows=ROWS + 9), real(texts, p))[1]
    )
    with pytest.raises(DataError, match="was changed while it was scored"):
        run(source, tmp_path / "out", predictor)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {JOB_FILE}
    with pytest.raises(ConfigError, match="input_sha256 was"):
        run(source, tmp_path / "out", predictor)


def test_columns_of_the_same_name_stay_beside_the_new_ones(predictor: SentimentPredictor, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "texts.jsonl", label="mine", predicted_label="mine too", row=7)
    run(source, tmp_path / "out", predictor)
    found = pd.read_parquet(tmp_path / "out")
    assert set(found["label"]) == {"mine"}
    assert set(found["predicted_label"]) == {"mine too"}
    assert set(found["predicted_predicted_label"]) <= {"negative", "positive"}
    assert set(found["row"]) == {7}
    assert found["scoring_row"].tolist() == list(range(1, ROWS + 1))
    assert free_name("a", ["b"], "x_") == "a"


def test_types_are_the_inputs_own(tmp_path: Path) -> None:
    path = tmp_path / "texts.parquet"
    rows = pa.table(
        {
            "text": pa.array(["a", None]).dictionary_encode(),
            "small": pa.array([1, None], pa.int8()),
            "when": pa.array([1, 2], pa.timestamp("ns", "UTC")),
            "nested": pa.array([{"a": [1]}, None]),
        }
    )
    pq.write_table(rows, path)
    (part,) = TextTable.open(path, "text").parts(0, 10)
    assert part.schema.field("text").type == pa.string()
    assert part.drop(["text"]).equals(rows.drop(["text"]))


def test_json_numbers_of_several_kinds_share_a_type_and_others_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unroll.data.review_files.CHUNK_ROWS", 2)
    path = tmp_path / "texts.jsonl"
    rows = [{"text": "a", "x": None}, {"text": "b", "x": 1}, {"text": "c", "x": 2}, {"text": "d", "x": 0.5}]
    path.write_text("\n".join(map(json.dumps, rows)))
    parts = list(TextTable.open(path, "text").parts(1, 2))
    assert [part["x"].to_pylist() for part in parts] == [[1.0, 2.0], [0.5]]
    path.write_text("\n".join(map(json.dumps, [*rows, {"text": "e", "x": "five"}])))
    with pytest.raises(DataError, match="do not fit into one Parquet table"):
        TextTable.open(path, "text")


def test_an_input_without_texts_is_refused_in_words(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "texts.jsonl", number=5)
    with pytest.raises(DataError, match=r"no column 'txt'.*did you mean --text-column text"):
        check_texts(path, "txt")
    with pytest.raises(DataError, match="column 'number' holds int64; expected text"):
        TextTable.open(path, "number")
    (tmp_path / "head.csv").write_text("text,label\n")
    with pytest.raises(DataError, match="no rows; expected texts"):
        check_texts(tmp_path / "head.csv", "text")
    (tmp_path / "twice.csv").write_text("text,a,a\nx,1,2\n")
    with pytest.raises(DataError, match="more than one column named 'a'"):
        check_texts(tmp_path / "twice.csv", "text")


def drift_check(model_folder: Path, heard: list[DriftReport]) -> DriftCheck:
    """As the scoring task makes one, of a small model: 20 texts validated it."""
    return DriftCheck(read_reference(model_folder), DriftConfig(least_count=10), heard.append)


def test_drift_is_judged_beside_the_parts_and_told(
    predictor: SentimentPredictor, model_folder: Path, tmp_path: Path
) -> None:
    heard: list[DriftReport] = []
    output = tmp_path / "out"
    manifest = run(write_rows(tmp_path / "texts.csv"), output, predictor, drift=drift_check(model_folder, heard))
    told = json.loads((output / DRIFT_FILE).read_text())
    assert manifest["drift"] == {"verdict": "drifted", "reason": told["reason"]}
    assert "length" in told["reason"]
    assert told["count"] == ROWS
    assert told["settings"]["least_count"] == 10
    assert (output / DRIFT_PLOT).exists()
    assert [report.verdict for report in heard] == ["drifted"]
    assert len(pd.read_parquet(output)) == ROWS  # readers pass over what is beside the parts
    run(tmp_path / "texts.csv", output, predictor, drift=drift_check(model_folder, heard))
    assert len(heard) == 1  # what is done is not told again


def test_drift_is_that_of_all_parts_whoever_scored_them_and_told_again_where_the_job_was_not_done(
    predictor: SentimentPredictor, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, heard = write_rows(tmp_path / "texts.csv"), list[DriftReport]()
    run(source, tmp_path / "straight", predictor, drift=drift_check(model_folder, heard))

    def die(*_: Any) -> None:
        raise Killed

    real = ScoringFolder.publish
    monkeypatch.setattr(ScoringFolder, "publish", lambda self, number, part: (real(self, number, part), die())[0])
    for _ in range(3):
        with suppress(Killed):
            run(source, tmp_path / "out", predictor, drift=drift_check(model_folder, heard))
    monkeypatch.setattr(ScoringFolder, "publish", real)
    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(ScoringFolder, "finish", die)
        run(source, tmp_path / "out", predictor, drift=drift_check(model_folder, heard))
    assert len(heard) == 2
    run(source, tmp_path / "out", predictor, drift=drift_check(model_folder, heard))
    assert len(heard) == 3
    assert heard[0] == heard[1] == heard[2]
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


def test_a_model_of_before_has_no_reference_and_scores_all_the_same(
    predictor: SentimentPredictor, model_folder: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    older.mkdir()
    for path in model_folder.iterdir():
        if path.name != FILE_NAME:
            (older / path.name).write_bytes(path.read_bytes())
    assert SentimentPredictor.load(older, torch.device("cpu")).class_names == predictor.class_names
    heard: list[DriftReport] = []
    manifest = run(write_rows(tmp_path / "t.csv"), tmp_path / "out", predictor, drift=drift_check(older, heard))
    assert manifest["drift"]["verdict"] == "not known"
    assert "without a reference" in manifest["drift"]["reason"]
    assert heard == []
    assert not (tmp_path / "out" / DRIFT_PLOT).exists()
