"""Generated passages reach a person at every temperature: on the terminal, in the run's report and in MLflow."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flows.commands import table
from unroll.config import LanguageModelConfig, SentimentConfig
from unroll.evaluation.behaviour import save_behaviour
from unroll.evaluation.intervals import Interval
from unroll.evaluation.report import EvaluationReport
from unroll.store import Artifact

PASSAGES = [
    {"temperature": 1.0, "text": "The island was in sight,\nsaid the sailor."},
    {"temperature": 0.5, "text": "The island of the island of the island"},
    {"temperature": 2.0, "text": "The islandq, Vx"},
]


@pytest.fixture(scope="module")
def tasks() -> ModuleType:
    """The floor of tasks; importing it brings Prefect, which wants a folder to be at home in."""
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    import tasks.evaluate
    import tasks.report
    import tasks.stage

    return tasks


class RecordedRun:
    """Stands for the MLflow run: keeps the texts that it is given."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def log_text(self, text: str, name: str) -> None:
        self.texts[name] = text

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        pass

    def log_final_metrics(self, metrics: dict[str, float], step: int = 0) -> None:
        pass

    def url(self) -> str | None:
        return None

    def page(self) -> str:
        return "http://127.0.0.1:5000/#/experiments/1/runs/run"


def evaluation_of(**details: Any) -> EvaluationReport:
    metrics = {"test/bits_per_char": Interval(2.0, 1.9, 2.1)}
    return EvaluationReport("language_model", metrics, None, "digest", 100, 0.95, details)


def summary_of(project: str = "language_model", **parts: Any) -> dict[str, Any]:
    config = LanguageModelConfig() if project == "language_model" else SentimentConfig()
    return {
        "project": project,
        "config": config.model_dump(mode="json"),
        "flow_run_id": "flow",
        "mlflow_run_id": "run",
        "stages": [],
        "metrics": {"test/bits_per_char": {"value": 2.0, "low": 1.9, "high": 2.1}},
        "rival": None,
        "model": {"name": "unroll", "version": "1", "decision": "promoted", "reason": "The first version."},
        "training": {
            **{"steps": 10, "seconds": 1.0, "tokens_per_second": 50.0, "device": "cpu", "precision": "float32"},
            **{"clipped_fraction": 0.0},
        },
        "seconds": 2.0,
        **parts,
    }


def test_the_table_ends_with_the_passage_of_each_temperature(capsys: pytest.CaptureFixture[str]) -> None:
    table.print_summaries([summary_of()], [PASSAGES])
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("generated at temperature 1")
    assert lines[start : start + 8] == [
        "generated at temperature 1",
        "  The island was in sight,",
        "  said the sailor.",
        "generated at temperature 0.5",
        "  The island of the island of the island",
        "generated at temperature 2",
        "  The islandq, Vx",
        "",
    ]


def test_each_run_of_the_table_has_its_own_passages_and_a_classifier_none(capsys: pytest.CaptureFixture[str]) -> None:
    table.print_summaries([summary_of("sentiment"), summary_of()], [[], PASSAGES[:1]])
    output = capsys.readouterr().out
    assert output.count("generated at temperature") == 1
    assert output.index("SENTIMENT") < output.index("LANGUAGE MODEL") < output.index("generated at temperature 1")


def test_a_long_passage_is_wrapped_to_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    words = [f"word{number}" for number in range(80)]
    table.print_summaries([summary_of()], [[{"temperature": 0.7, "text": " ".join(words)}]])
    output = capsys.readouterr().out
    _before, _label, passage = output.partition("generated at temperature 0.7\n")
    lines = passage.partition("\n\n")[0].splitlines()
    assert max(map(len, lines)) <= 60
    assert " ".join(lines).split() == words


def test_the_report_has_a_part_for_each_temperature(tasks: Any) -> None:
    markdown = tasks.report._markdown(summary_of(passages=PASSAGES), evaluation_of(), [], RecordedRun())
    texts = {f"{passage['temperature']:g}": passage["text"] for passage in PASSAGES}
    assert list(texts) == ["1", "0.5", "2"]
    parts = [f"\nGenerated at temperature {name}:\n\n```text\n{text}\n```\n" for name, text in texts.items()]
    assert markdown.endswith("".join(parts))


def test_a_report_without_passages_has_no_such_part(tasks: Any) -> None:
    assert "Generated" not in tasks.report._markdown(summary_of(passages=[]), evaluation_of(), [], RecordedRun())


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        (
            {"passages": PASSAGES},
            {
                "evaluation/passage_temperature_1.txt": PASSAGES[0]["text"],
                "evaluation/passage_temperature_0.5.txt": PASSAGES[1]["text"],
                "evaluation/passage_temperature_2.txt": PASSAGES[2]["text"],
            },
        ),
        ({"confusion_matrix": [[1, 0], [0, 1]]}, {}),
    ],
)
def test_every_passage_is_an_artifact_of_the_run(
    details: dict[str, Any], expected: dict[str, str], tasks: Any, tmp_path: Path
) -> None:
    evaluation_of(**details).save(tmp_path)
    save_behaviour([], tmp_path)
    artifact = Artifact("evaluate", "key", str(tmp_path), "digest")
    run = RecordedRun()
    tasks.evaluate._log_evaluation(run, tasks.stage.StageResult("evaluate", artifact, False, "new", 1.0))
    assert run.texts == expected
