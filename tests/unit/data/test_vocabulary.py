from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.data.vocabulary import Vocabulary
from unroll.errors import CheckpointError

COUNTS = st.dictionaries(st.text(max_size=4), st.integers(1, 5))


def test_ids_go_by_frequency_and_ties_by_the_tokens_order() -> None:
    vocabulary = Vocabulary.build({"b": 2, "a": 2, "rare": 1, "often": 9})
    assert vocabulary.tokens == ("<pad>", "<unk>", "often", "a", "b", "rare")


def test_vocab_size_counts_the_special_tokens_and_min_count_leaves_out() -> None:
    counts = {"a": 5, "b": 4, "c": 3, "d": 1}
    assert Vocabulary.build(counts, vocab_size=4).tokens[2:] == ("a", "b")
    assert Vocabulary.build(counts, min_count=4).tokens[2:] == ("a", "b")


def test_unknown_tokens_and_spelled_out_special_tokens_have_the_id_of_unk() -> None:
    vocabulary = Vocabulary.build({"<pad>": 9, "<unk>": 9, "a": 1})
    assert vocabulary.tokens == ("<pad>", "<unk>", "a")
    assert vocabulary.ids(["a", "<pad>", "<unk>", "new"]) == [2, 1, 1, 1]


@settings(deadline=None)
@given(COUNTS, st.randoms())
def test_the_order_of_counting_does_not_matter(counts: dict[str, int], random: object) -> None:
    items = list(counts.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert Vocabulary.build(dict(items)).digest == Vocabulary.build(counts).digest


@settings(deadline=None)
@given(COUNTS)
def test_a_saved_vocabulary_loads_as_itself(tmp_path_factory: pytest.TempPathFactory, counts: dict[str, int]) -> None:
    folder = tmp_path_factory.mktemp("vocabulary")
    vocabulary = Vocabulary.build({**counts, "\ud800": 7, "é\0\n": 1})
    vocabulary.save(folder)
    assert Vocabulary.load(folder) == vocabulary
    assert "\ud800" not in vocabulary.tokens


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-3],
        lambda content: b"\xff" + content,
        lambda content: b"[]",
        lambda content: content.replace(b'"alpha"', b'"alphb"'),
        lambda content: content.replace(b'"alpha"', b"7"),
        lambda content: content.replace(b'"alpha"', b'"beta"'),
        lambda content: content.replace(b'"format": 1', b'"format": 99'),
        lambda content: json.dumps({"format": 1, "tokens": ["alpha"]}).encode(),
    ],
)
def test_a_damaged_file_is_a_checkpoint_error_that_names_it_or_its_fault(tmp_path: Path, damage: object) -> None:
    Vocabulary.build({"alpha": 2, "beta": 1}).save(tmp_path)
    path = tmp_path / "vocabulary.json"
    content = path.read_bytes()
    damaged = damage(content)  # type: ignore[operator]
    assert damaged != content
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="again"):
        Vocabulary.load(tmp_path)


def test_a_missing_file_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"vocabulary\.json"):
        Vocabulary.load(tmp_path)
