"""A file or folder is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unroll import files
from unroll.errors import ConfigError, StoreError
from unroll.files import publish_folder, sha256_of, write_json, writing


def test_json_is_written_whole_or_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": "é"})
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert path.read_text(encoding="utf-8") == '{\n "x": "é"\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "partial" / "deep").mkdir(parents=True)
    (tmp_path / "partial" / "deep" / "file").write_text("x")
    done: list[str] = []
    rename, fsync = os.rename, os.fsync
    monkeypatch.setattr(files.os, "rename", lambda *paths: (done.append("rename"), rename(*paths))[1])
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: (done.append("sync"), fsync(descriptor))[1])
    publish_folder(tmp_path / "partial", tmp_path / "whole")
    # the file, its folder, the outer folder; the name; the folder that holds the name
    assert done == ["sync", "sync", "sync", "rename", "sync"]


def test_digests_are_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_other_errors_pass_through_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), writing(tmp_path):
        (tmp_path / "none").read_text()
    with pytest.raises(ConfigError, match="ours"), writing(tmp_path):
        raise ConfigError("ours")


def test_a_file_where_a_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"), writing(tmp_path / "file" / "deep"):
        (tmp_path / "file" / "deep").mkdir()
