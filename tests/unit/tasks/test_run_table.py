"""The prepared run table: in the form that MLflow's page reads, made once, and never over what a person made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tasks.run_table import KIND, KIND_TAG, NOTE_TAG, VIEW_TAG, experiment_tags, view_path
from tasks.tracking import CHAPTER_EXPERIMENT, experiment_name, open_keyed_run


@pytest.mark.parametrize(("project", "metric"), [("sentiment", "accuracy"), ("language_model", "bits_per_char")])
def test_a_projects_table_has_its_result_beside_the_rivals(project: str, metric: str) -> None:
    tags = experiment_tags(experiment_name(project), "7")
    view = json.loads(tags[VIEW_TAG])
    assert {"name", "createdAt", "updatedAt"} < set(view)
    columns = json.loads(view["state"])["selectedColumns"]
    assert f"metrics.`test/{metric}`" in columns
    assert f"metrics.`rival/test/{metric}`" in columns
    assert "params.`training.learning_rate`" in columns
    assert view_path("7").lstrip("/") in tags[NOTE_TAG]


def test_an_experiment_of_no_project_has_its_kind_alone() -> None:
    assert experiment_tags(CHAPTER_EXPERIMENT, "3") == {KIND_TAG: KIND}


def test_the_table_is_made_with_the_experiment_and_a_persons_words_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        client, name = MlflowClient(uri), experiment_name("sentiment")
        with open_keyed_run(name, "a", "first", {}, {}):
            pass
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None
        assert experiment.tags[VIEW_TAG]
        assert "sentiment project" in experiment.tags[NOTE_TAG]
        client.set_experiment_tag(experiment.experiment_id, NOTE_TAG, "my own words")
        with open_keyed_run(name, "b", "second", {}, {}):
            pass
        assert client.get_experiment(experiment.experiment_id).tags == experiment.tags | {NOTE_TAG: "my own words"}
        # one that an earlier version made, and one whose kind somebody chose
        others = {"unroll-language-model": {}, CHAPTER_EXPERIMENT: {KIND_TAG: "genai_development"}}
        for name, tags in others.items():
            client.create_experiment(name, tags=tags)
            with open_keyed_run(name, "c", "third", {}, {}):
                pass
        kinds = {each.name: each.tags.get(KIND_TAG) for each in client.search_experiments()}
        assert kinds == {
            "Default": None,
            experiment.name: KIND,
            "unroll-language-model": KIND,
            CHAPTER_EXPERIMENT: "genai_development",
        }
    finally:
        mlflow.set_tracking_uri(before)
