import errno
import os

import pytest

from efficientconv.atomic import remove_unfinished, replaced_whole


@pytest.fixture
def synced(monkeypatch):
    """Record which files and folders are synced to the disk, and let the real call do it."""
    names, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (names.append(_name(descriptor)), real(descriptor)))
    return names


def _name(descriptor):
    return os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))


def test_the_content_reaches_the_disk_before_the_name_and_the_name_before_it_returns(tmp_path, synced):
    file = tmp_path / "new" / "a.json"
    with replaced_whole(file) as temporary:
        temporary.write_text("{}")
    assert synced == [temporary.name, "new"]
    assert [path.name for path in file.parent.iterdir()] == ["a.json"]
    assert file.read_text() == "{}"


def write_and_fail(file):
    with replaced_whole(file) as temporary:
        temporary.write_text("half of the n")
        raise ArithmeticError


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(ArithmeticError):
        write_and_fail(tmp_path / "a")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_nothing_written_replaces_nothing(tmp_path):
    (tmp_path / "a").write_text("old")
    with replaced_whole(tmp_path / "a"):
        pass
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_syncs_no_folders_will_do(tmp_path, monkeypatch, number):
    _let_fsync_of_folders_fail(monkeypatch, number)
    with replaced_whole(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "new"


def test_a_disk_that_fails_is_not_kept_quiet(tmp_path, monkeypatch):
    _let_fsync_of_folders_fail(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output"), replaced_whole(tmp_path / "a") as temporary:
        temporary.write_text("new")


def _let_fsync_of_folders_fail(monkeypatch, number):
    real = os.fsync

    def fsync(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    (tmp_path / "last.ckpt").write_text("whole")
    with replaced_whole(tmp_path / "last.ckpt") as temporary:
        temporary.write_text("half")
        remove_unfinished(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"last.ckpt": "whole"}
