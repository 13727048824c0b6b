"""Checkpoints are whole, found again, and refuse what does not fit."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from unroll.errors import CheckpointError, StoreError
from unroll.training import checkpoint
from unroll.training.checkpoint import CheckpointFolder, load_checkpoint, load_weights, save_weights, weights_sha256
from unroll.training.seed import generator_states, restore_generators, seed_torch


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.output = nn.Linear(3, 5)
        self.output.weight = self.embedding.weight


def saved(folder: Path, **state: Any) -> Path:
    CheckpointFolder(folder).save("latest", nn.Linear(2, 2), {"step": 3}, state)
    newest = CheckpointFolder(folder).newest("latest")
    assert newest is not None
    return newest


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    state = {"carried": ((torch.ones(1, 2),),), "number": 4}
    CheckpointFolder(tmp_path).save("good", model, {"step": 3}, state)
    newest = CheckpointFolder(tmp_path).newest("latest", "good")
    assert newest is not None
    progress, loaded = load_checkpoint(newest, other)
    assert progress == {"step": 3}
    assert loaded["number"] == 4
    assert torch.equal(loaded["carried"][0][0], torch.ones(1, 2))
    assert weights_sha256(dict(other.state_dict())) == weights_sha256(dict(model.state_dict()))


def test_only_the_newest_of_a_kind_is_kept_and_the_newest_of_all_is_found(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for kind in ("good", "latest", "latest", "good", "best"):
        folder.save(kind, nn.Linear(1, 1), {}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-00000005", "good-00000004", "latest-00000003"]
    newest = folder.newest("latest", "good")
    assert newest is not None
    assert newest.name == "good-00000004"
    assert folder.newest("other") is None


def test_a_half_written_checkpoint_is_never_found_and_goes_with_the_next_save(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    (tmp_path / "latest-00000007.partial").mkdir()
    assert folder.newest("latest") is None
    folder.save("good", nn.Linear(1, 1), {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["good-00000001"]


@pytest.mark.parametrize("name", ["weights.safetensors", "state.pt", "progress.json"])
@pytest.mark.parametrize("content", [b"", b"\x00garbage", b"[]", None])
def test_a_damaged_part_is_a_checkpoint_error(name: str, content: bytes | None, tmp_path: Path) -> None:
    folder = saved(tmp_path, number=1)
    part = folder / name
    part.write_bytes(part.read_bytes()[:-9] if content is None else content)
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder, nn.Linear(2, 2))


class Harmful:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (pytest.fail, ("a pickle was run",))


def test_no_pickle_is_ever_run(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    torch.save(Harmful(), folder / "state.pt")
    with pytest.raises(CheckpointError, match=r"state\.pt cannot be read"):
        load_checkpoint(folder, nn.Linear(2, 2))


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_weights(nn.Linear(2, 2), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="use the config and vocabulary saved beside them"):
        load_weights(nn.Linear(2, 3), tmp_path / "w.safetensors")


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    model, other = Tied(), Tied()
    save_weights(model, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").stat().st_size < 2 * 5 * 3 * 4 + 5 * 4 + 300
    assert other.output.weight is other.embedding.weight
    assert torch.equal(other.output.weight, model.embedding.weight)
    assert torch.equal(other.output.bias, model.output.bias)


@pytest.mark.parametrize("part", ["save_weights", "publish_folder"])
def test_a_full_disk_says_what_to_do_and_leaves_nothing_half_made(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, part, fail)
    with pytest.raises(StoreError, match=r"disk is full.*free some space"):
        CheckpointFolder(tmp_path).save("latest", nn.Linear(2, 2), {}, {})
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_the_digest_tells_names_shapes_and_values_apart() -> None:
    base = {"a": torch.zeros(2, 3)}
    others = [
        {"b": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"a": torch.eye(2, 3)},
    ]
    digests = {weights_sha256(tensors) for tensors in [base, *others]}
    assert len(digests) == 4
    assert weights_sha256({"x": torch.ones(1), "a": torch.zeros(1)}) == weights_sha256(
        {"a": torch.zeros(1), "x": torch.ones(1)}
    )


def test_restored_generators_go_on_where_they_were() -> None:
    seed_torch(4)
    torch.rand(3)
    states = generator_states(torch.device("cpu"))
    expected = torch.rand(5)
    torch.rand(7)
    restore_generators(states, torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected)
