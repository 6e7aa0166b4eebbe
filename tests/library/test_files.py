import os
import stat
from pathlib import Path

import pytest

from hpc_hydra import _files as files
from hpc_hydra import _recording as recording
from hpc_hydra import _records as records


def test_a_file_of_somebody_else_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a link leads."""
    path, link = tmp_path / "result.pkl", tmp_path / "link"
    path.write_bytes(b"content")
    link.symlink_to(path)
    with files.open_own(link) as file:
        assert file.read() == b"content"
    monkeypatch.setattr("os.geteuid", lambda: 2**31 - 3)
    for name in (path, link):
        with pytest.raises(PermissionError, match=f"{name.name} belongs to .*cp -r"):
            files.open_own(name)
    with pytest.raises(recording.LauncherError, match="belongs to"):
        recording.refuse_foreign(tmp_path / "not there", link)


def test_folders_in_which_everyone_can_write_are_found(tmp_path: Path) -> None:
    base, elsewhere = tmp_path / "base", tmp_path / "elsewhere"
    (base / "sweep" / "jobs").mkdir(parents=True)
    (elsewhere / "jobs").mkdir(parents=True)
    link = base / "link"
    link.symlink_to(elsewhere / "jobs")
    above = set(files.writable_by_all(tmp_path))  # of this machine
    found = [set(files.writable_by_all(path)) - above for path in (base / "sweep" / "jobs", link)]
    assert found == [set(), set()]
    base.chmod(0o2775)
    assert set(files.writable_by_all(base / "sweep")) == above
    base.chmod(0o777)
    elsewhere.chmod(0o777)
    assert set(files.writable_by_all(base / "sweep" / "jobs")) - above == {base}
    assert set(files.writable_by_all(link)) - above == {base, elsewhere}
    base.chmod(0o1777)
    assert set(files.writable_by_all(link)) - above == {elsewhere}


@pytest.mark.parametrize("mask", [0o027, 0o002])
def test_files_have_the_permissions_that_the_umask_leaves(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        files.write_atomically(tmp_path / "file", "text")
        with files.locked(tmp_path / "lock"):
            pass
        directory = records.claim(tmp_path / "day" / "second")
    finally:
        os.umask(before)
    for path in (tmp_path / "file", tmp_path / "lock"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    for path in (directory, directory.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~mask
