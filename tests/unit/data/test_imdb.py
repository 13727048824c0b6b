from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unroll.config import SentimentDataConfig
from unroll.data import imdb
from unroll.data.corpora import ReviewCorpus
from unroll.data.downloads import Backoff, TransientError
from unroll.data.hub import LoadedSplit
from unroll.data.review_import import SplitFacts
from unroll.data.sources import fetch_reviews
from unroll.errors import DataError, DownloadError

QUICK = Backoff(tries=3, first_seconds=0.001, longest_seconds=0.002)
ROWS: dict[str, list[object]] = {"text": ["dull", "bright", "grey", "gold"], "label": [0, 1, 0, 1]}
FACTS = SplitFacts(4, 18, hashlib.sha256(b"0 4\ndull1 6\nbright0 4\ngrey1 4\ngold").hexdigest())


class Hub:
    """Stands in for `load_splits`: each call takes the next answer, an error or the rows of both splits."""

    def __init__(self, *answers: Exception | dict[str, list[object]]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def load(self, name: str, columns: object, scratch: Path) -> dict[str, LoadedSplit]:
        self.asked.append(name)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        scratch.mkdir(parents=True)
        for split in ("train", "test"):
            pq.write_table(pa.table(answer), scratch / f"{split}.parquet")
        names: dict[str, tuple[str, ...]] = {"label": ("neg", "pos")}
        return {s: LoadedSplit(scratch / f"{s}.parquet", ("text", "label"), names) for s in ("train", "test")}


def use(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> Hub:
    monkeypatch.setattr(imdb, "load_splits", hub.load)
    monkeypatch.setattr(imdb, "reach", lambda url, backoff: None)
    monkeypatch.setattr(imdb, "EXPECTED", {"train": FACTS, "test": FACTS})
    return hub


def mirror_in(folder: Path) -> Path:
    (folder / "mirror" / "imdb").mkdir(parents=True)
    return folder / "mirror"


def fetch(folder: Path, mirror: Path | None) -> str:
    out = folder / "out"
    out.mkdir()
    return str(imdb.fetch_imdb(out, mirror, QUICK)["origin"])


def test_the_mirror_is_tried_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = use(monkeypatch, Hub(dict(ROWS)))
    mirror = mirror_in(tmp_path)
    assert fetch(tmp_path, mirror) == "mirror"
    assert hub.asked == [str(mirror / "imdb")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["test.parquet", "train.parquet"]


def test_a_network_fault_that_passes_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = use(monkeypatch, Hub(TransientError("reset"), TransientError("reset"), dict(ROWS)))
    assert fetch(tmp_path, None) == "network"
    assert hub.asked == ["stanfordnlp/imdb"] * 3


@pytest.mark.parametrize(
    "damage", [{"text": ["dull"], "label": [0]}, {**ROWS, "label": [1, 0, 1, 0]}, {**ROWS, "text": list("abcd")}]
)
def test_a_damaged_mirror_gives_way_to_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: dict[str, list[object]], caplog: pytest.LogCaptureFixture
) -> None:
    hub = use(monkeypatch, Hub(damage, dict(ROWS)))
    with caplog.at_level(logging.WARNING, "unroll"):
        assert fetch(tmp_path, mirror_in(tmp_path)) == "network"
    assert len(hub.asked) == 2
    assert "damaged, or another edition" in caplog.text


def test_when_all_fails_the_error_says_what_was_tried_and_what_needs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Hub(DataError("no such files"), *[TransientError("no route")] * 3))
    with pytest.raises(DownloadError, match=r"the mirror: no such files; the network: no route.*data\.source=sample"):
        fetch(tmp_path, mirror_in(tmp_path))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_test_file_of_the_users_own_takes_the_place_of_imdbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Hub(dict(ROWS)))
    (tmp_path / "mine.csv").write_text("text,label\nwarm,positive\ncold,neg\nwet,0\n")
    config = SentimentDataConfig(source="imdb", test_source=str(tmp_path / "mine.csv"))
    out = tmp_path / "out"
    out.mkdir()
    fetch_reviews(config, 1, out, mirror_in(tmp_path))
    corpus = ReviewCorpus.open(out)
    assert list(corpus.labels("test")) == [1, 0, 0]
    assert corpus.info["rows"] == {"train": 4, "test": 3}
    assert corpus.class_names == ("negative", "positive")
