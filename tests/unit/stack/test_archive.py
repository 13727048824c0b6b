from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.archive import MANIFEST, read_archive, write_archive
from unroll.errors import StoreError

NAMES = st.lists(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,3}\.bin", fullmatch=True), max_size=6, unique=True)


def make(folder: Path, files: dict[str, bytes]) -> tuple[Path, dict[str, Path]]:
    members = {}
    for name, content in files.items():
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        members[name] = path
    return folder / "made.tar", members


@given(names=NAMES, content=st.binary(max_size=3000))
def test_what_is_put_in_comes_out(tmp_path_factory: pytest.TempPathFactory, names: list[str], content: bytes) -> None:
    folder = tmp_path_factory.mktemp("archive")
    files = {name: name.encode() + content for name in names}
    target, members = make(folder, files)
    write_archive(target, members, {"made": "now"})
    contents = read_archive(target, folder / "out")
    assert contents.about == {"made": "now"}
    assert {name: (folder / "out" / name).read_bytes() for name in contents.digests} == files


@given(data=st.data())
def test_no_changed_byte_and_no_cut_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("archive")
    target, members = make(folder, {"a/b.bin": b"x" * 1500, "c.bin": b"y" * 700})
    write_archive(target, members, {})
    whole = target.read_bytes()
    contents = read_archive(target).digests
    if data.draw(st.booleans()):
        # a tar ends in empty blocks, which say nothing
        end = whole.rindex(b"}") + 1
        target.write_bytes(whole[: data.draw(st.integers(0, end - 1))])
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        target.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
    try:
        found = read_archive(target, folder / "out")
    except StoreError:
        return
    # what was hit, then, was a time stamp or padding
    assert found.digests == contents
    assert (folder / "out" / "a" / "b.bin").read_bytes() == b"x" * 1500
    assert (folder / "out" / "c.bin").read_bytes() == b"y" * 700


def test_only_its_owner_may_read_it_and_it_is_not_written_over(tmp_path: Path) -> None:
    target, members = make(tmp_path, {"a": b"1"})
    write_archive(target, members, {})
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StoreError, match="is there already"):
        write_archive(target, members, {})


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    target, members = make(tmp_path, {"a": b"1", "b": b"2"})

    def stop(name: str, size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_archive(target, members, {}, stop)
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_a_file_that_has_gone_is_left_out(tmp_path: Path) -> None:
    target, members = make(tmp_path, {"a": b"1", "b": b"2"})
    members["a"].unlink()
    write_archive(target, members, {})
    assert set(read_archive(target).digests) == {"b"}


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    target = tmp_path / "bad.tar"
    with tarfile.open(target, "w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(StoreError, match="which no backup does"):
        read_archive(target, tmp_path / "out")


def test_a_link_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "bad.tar"
    with tarfile.open(target, "w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(StoreError, match="which no backup does"):
        read_archive(target, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"no tar at all", b"\0" * 10240])
def test_what_is_no_backup_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(StoreError, match="backup of Unroll"):
        read_archive(tmp_path / "file")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no file"):
        read_archive(tmp_path / "none.tar")


def test_another_format_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "later.tar"
    with tarfile.open(target, "w") as tar:
        member = tarfile.TarInfo(MANIFEST)
        text = b'{"format": 2}'
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    with pytest.raises(StoreError, match="has format 2; this version reads 1"):
        read_archive(target)
