from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from unroll.evaluation.retrain_charts import POINTS, image, image_of, mermaid, thin
from unroll.retraining import Curve

OURS = [[float(step), 0.7 - step / 1000] for step in range(1, 201, 20)]
THEIRS = [[float(step), 0.8 - step / 1000] for step in range(1, 101, 20)]
LOSS = Curve("train/loss", {"this version": OURS, "champion (version 3)": THEIRS})


def test_a_chart_has_a_line_for_each_model_over_one_axis_and_says_which_is_which() -> None:
    lines = mermaid(LOSS)
    text = "\n".join(lines)
    assert "this version in blue (to step 181), champion (version 3) in orange (to step 81)" in lines[0]
    drawn = re.findall(r"^    line \[(.*)\]$", text, re.MULTILINE)
    assert [len(values.split(", ")) for values in drawn] == [POINTS, POINTS]
    low, high = map(float, re.findall(r'y-axis ".*" (\S+) --> (\S+)', text)[0])
    values = [float(value) for line in drawn for value in line.split(", ")]
    assert low < min(values)
    assert max(values) < high
    assert drawn[0].startswith("0.69")
    assert drawn[0].endswith("0.519")
    tokens = MarkdownIt().parse(text)
    assert [(each.type, each.info) for each in tokens if each.type == "fence"] == [("fence", "mermaid")]


def test_a_flat_line_has_a_chart_too() -> None:
    flat = Curve("validation/accuracy", {"this version": [[1.0, 0.0], [2.0, 0.0]]})
    assert 'y-axis "validation accuracy" -0.001 --> 0.001' in "\n".join(mermaid(flat))


@pytest.mark.parametrize("points", [[[20.0, 0.5]], []])
def test_one_point_is_told_in_words(points: list[list[float]]) -> None:
    lines = mermaid(Curve("validation/accuracy", {"this version": points}))
    assert lines == (["Validation accuracy: this version 0.5000 at step 20."] if points else [])


def test_many_points_become_means_of_neighbours_and_none_is_no_number() -> None:
    points = [[float(step), float(step)] for step in range(1000)]
    kept = thin([*points, [1000.0, float("nan")]], most=50)
    assert len(kept) == 50
    assert kept[0] == [9.5, 9.5]
    assert thin([[1.0, 2.0]]) == [[1.0, 2.0]]
    assert thin([]) == []


def test_an_image_is_within_the_markdown(tmp_path: Path) -> None:
    (line,) = image(LOSS)
    rendered = MarkdownIt("commonmark", {"html": False}).render(line)
    assert rendered.startswith('<p><img src="data:image/png;base64,iVBORw0KGgo')
    path = tmp_path / "loss_<b>.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert MarkdownIt("commonmark", {"html": False}).render(image_of(path)).count("<img") == 1
