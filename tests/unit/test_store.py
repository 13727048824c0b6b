"""Artifacts are whole or absent, checked when read, made once among processes, and a miss says why."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unroll import files, store
from unroll.errors import StoreError
from unroll.store import StageKey, Store, source_digests, verify

KEY = StageKey(
    "sentiment",
    "train",
    {"encoded": "abc"},
    {"training.learning_rate": 0.003, "training.betas": (0.9, 0.99)},
    {"m": "1"},
)


@pytest.fixture
def shelf(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write_two(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "one.txt").write_text("one")
    (folder / "deep" / "two.bin").write_bytes(b"\x00" * 1000)


def left_in(shelf: Store) -> list[str]:
    return sorted(path.name for path in (shelf.root / KEY.project / KEY.stage).iterdir() if path.suffix != ".lock")


def test_what_is_published_is_found(shelf: Store) -> None:
    assert shelf.find(KEY) is None
    made = shelf.publish(KEY, write_two)
    found = Store(shelf.root).find(KEY)
    assert found == made
    assert (made.folder / "deep" / "two.bin").read_bytes() == b"\x00" * 1000
    assert (made.stage, made.key) == ("train", KEY.digest)


def test_equal_files_have_equal_digests_whatever_key_made_them(shelf: Store) -> None:
    one = shelf.publish(KEY, write_two)
    other = shelf.publish(replace(KEY, settings={}), write_two)
    assert one.digest == other.digest
    assert one.key != other.key
    changed = shelf.publish(replace(KEY, inputs={}), lambda folder: (folder / "one.txt").write_text("two") and None)
    assert changed.digest != one.digest


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt(), SystemExit(1)])
def test_a_writer_that_raises_leaves_nothing(shelf: Store, error: BaseException) -> None:
    def write(folder: Path) -> None:
        write_two(folder)
        raise error

    with pytest.raises(type(error)):
        shelf.publish(KEY, write)
    assert left_in(shelf) == []
    assert shelf.find(KEY) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("where", ["writer", "manifest", "sync"])
def test_a_full_disk_says_what_to_do_and_leaves_nothing(
    shelf: Store, number: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    if where != "writer":
        monkeypatch.setattr(*((store, "write_json") if where == "manifest" else (files, "sync_folder")), fail)
    with pytest.raises(StoreError, match=r"disk is full.*Nothing half-made was kept.*unroll clean"):
        shelf.publish(KEY, fail if where == "writer" else write_two)
    assert left_in(shelf) == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_says_what_to_do(
    shelf: Store, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(StoreError, match="UNROLL_HOME"):
        shelf.publish(KEY, write_two)
    with pytest.raises(StoreError, match="UNROLL_HOME"), shelf.lock(KEY):
        pass


@pytest.mark.parametrize("name", ["one.txt", "deep/two.bin", "manifest.json"])
@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_a_damaged_artifact_is_told_and_made_anew(shelf: Store, name: str, how: str) -> None:
    made = shelf.publish(KEY, write_two)
    path = made.folder / name
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if how == "cut" else b"?" + content[1:])
    assert shelf.find(KEY) is None
    if (how, name) != ("gone", "manifest.json"):
        assert "was damaged" in shelf.explain_miss(KEY)
    assert shelf.publish(KEY, write_two) == made
    assert len(left_in(shelf)) == 1


@pytest.mark.parametrize("manifest", ["[]", "{}", '{"files": []}', '{"files": {}}', "null", '{"files": 3}'])
def test_a_manifest_that_makes_no_sense_is_a_store_error(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(StoreError, match=r"manifest\.json cannot be read"):
        verify(tmp_path)


def test_what_killed_processes_left_is_swept(shelf: Store) -> None:
    folder = shelf.root / KEY.project / KEY.stage
    for ending in ("partial-99999", "removed-123"):
        (folder / f"{KEY.digest[:32]}.{ending}" / "deep").mkdir(parents=True)
    shelf.publish(KEY, write_two)
    assert left_in(shelf) == [KEY.digest[:32]]


def test_removing_drops_the_artifact_and_its_work(shelf: Store) -> None:
    shelf.publish(KEY, write_two)
    shelf.work_folder(KEY).mkdir(parents=True)
    shelf.remove(KEY)
    assert shelf.find(KEY) is None
    assert not shelf.work_folder(KEY).exists()
    shelf.remove(KEY)


# why a stage runs


def with_settings(**settings: Any) -> StageKey:
    return replace(KEY, settings={**KEY.settings, **{name.replace("__", "."): v for name, v in settings.items()}})


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (with_settings(training__learning_rate=0.002), "training.learning_rate changed from 0.003 to 0.002"),
        (with_settings(training__betas=(0.9, 0.9)), "training.betas changed from [0.9, 0.99] to [0.9, 0.9]"),
        (with_settings(training__clip="norm"), "training.clip changed from unset to norm"),
        (replace(KEY, inputs={"encoded": "xyz"}), "input encoded changed"),
        (replace(KEY, code={"m": "2"}), "code of m changed"),
        (
            replace(with_settings(training__learning_rate=1.0), code={"m": "1", "n": "1"}),
            "training.learning_rate changed from 0.003 to 1.0; code of n changed",
        ),
    ],
)
def test_a_miss_says_what_changed(shelf: Store, key: StageKey, words: str) -> None:
    shelf.publish(KEY, write_two)
    assert shelf.explain_miss(key) == words


def test_a_miss_without_any_artifact_says_so(shelf: Store) -> None:
    assert shelf.explain_miss(KEY) == "never made here"


def test_a_miss_is_explained_by_the_most_similar_artifact(shelf: Store) -> None:
    shelf.publish(with_settings(training__learning_rate=0.1), write_two)
    shelf.publish(replace(with_settings(training__learning_rate=0.2), code={"m": "9"}), write_two)
    broken = shelf.publish(with_settings(training__learning_rate=0.3), write_two)
    (broken.folder / "manifest.json").write_text("[]")
    assert shelf.explain_miss(KEY) == "training.learning_rate changed from 0.1 to 0.003"


def test_keys_tell_their_parts_apart() -> None:
    others = [
        replace(KEY, project="x"),
        replace(KEY, stage="x"),
        replace(KEY, inputs={}),
        replace(KEY, settings={}),
        replace(KEY, code={}),
    ]
    assert len({key.digest for key in [KEY, *others]}) == 6
    assert replace(KEY, settings=dict(reversed(list(KEY.settings.items())))).digest == KEY.digest


# what code a stage runs through


def test_digests_follow_lazy_and_indirect_imports() -> None:
    digests = source_digests(["unroll.training.fit"])
    assert {"unroll.training.trainer", "unroll.training.gradients", "unroll.models.recurrent"} <= set(digests)
    lazily = source_digests(["unroll.stages"])
    assert "unroll.training.fit" in lazily  # imported within a function
    assert set(digests) <= set(lazily)


def test_a_stage_knows_only_the_code_that_it_runs_through() -> None:
    assert not [name for name in source_digests(["unroll.data.corpus_encoding"]) if ".training" in name]
    assert not [name for name in source_digests(["unroll.training.fit"]) if ".evaluation" in name]


def test_a_changed_helper_changes_the_code_of_who_imports_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "top.py").write_text("def run():\n    from unroll.middle import f\n    return f\n")
    (tmp_path / "middle.py").write_text("import unroll.deep.helper\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "__init__.py").write_text("")
    (tmp_path / "deep" / "helper.py").write_text("x = 1\n")
    monkeypatch.setattr(store, "__file__", str(tmp_path / "store.py"))
    store._source_path.cache_clear()
    try:
        before = source_digests(["unroll.top"])
        assert set(before) == {"unroll.top", "unroll.middle", "unroll.deep.helper"}
        (tmp_path / "deep" / "helper.py").write_text("x = 2\n")
        after = source_digests(["unroll.top"])
        assert [name for name in before if before[name] != after[name]] == ["unroll.deep.helper"]
    finally:
        store._source_path.cache_clear()


# many processes

SCRIPT = """
import json, os, sys, time
from pathlib import Path
from unroll.store import StageKey, Store
store, key = Store(Path(sys.argv[1])), StageKey("p", "s", {}, {}, {})

def write(folder):
    with (Path(sys.argv[1]).parent / "makers").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(float(sys.argv[2]))
    (folder / "x").write_text("x")

with store.lock(key):
    artifact = store.find(key) or store.publish(key, write)
print(artifact.digest)
"""


def start(root: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(root), str(seconds)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_processes_that_want_the_same_artifact_make_it_once(tmp_path: Path) -> None:
    processes = [start(tmp_path / "store", 0.3) for _ in range(3)]
    digests = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(digests) == 1
    assert len((tmp_path / "makers").read_text().split()) == 1


def test_a_killed_holder_frees_the_lock_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    holder = start(tmp_path / "store", 600)
    deadline = time.monotonic() + 60
    while not (tmp_path / "makers").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    key = StageKey("p", "s", {}, {}, {})
    shelf = Store(tmp_path / "store")
    assert shelf.find(key) is None
    after = start(tmp_path / "store", 0)
    after.communicate(timeout=60)
    assert after.returncode == 0
    assert shelf.find(key) is not None
    names = [path.name for path in (tmp_path / "store" / "p" / "s").iterdir() if path.suffix != ".lock"]
    assert names == [key.digest[:32]]


def test_a_manifest_keeps_the_parts_of_its_key(shelf: Store) -> None:
    made = shelf.publish(KEY, write_two)
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["settings"]["training.learning_rate"] == 0.003
    assert (manifest["inputs"], manifest["code"]) == ({"encoded": "abc"}, {"m": "1"})
    assert set(manifest["files"]) == {"one.txt", "deep/two.bin"}
