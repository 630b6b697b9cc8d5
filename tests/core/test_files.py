"""Files: what a killed process left half written is neither published nor hashed."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core import files
from pipeline.core.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished folder of two files in which a killed process left two temporary ones."""
    folder = tmp_path / "work"
    files.write_bytes(folder / "images" / "a.png", b"a")
    files.write_json(folder / "metadata.json", {"a": 1})
    for left_behind in ("images/.a.png.12.tmp", ".metadata.json.12.tmp"):
        (folder / left_behind).write_bytes(b"half")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_temporary_files_are_not_published(folder: Path, tmp_path: Path) -> None:
    files.publish(folder, tmp_path / "out" / "siamese")
    assert names(tmp_path / "out") == ["siamese/.sums.json", "siamese/images/a.png", "siamese/metadata.json"]


def test_temporary_files_are_not_hashed(folder: Path) -> None:
    before = files.tree_sha256(folder)
    (folder / "images" / ".a.png.12.tmp").unlink()
    assert files.tree_sha256(folder) == before
    (folder / "images" / "a.png").write_bytes(b"b")
    assert files.tree_sha256(folder) != before


def test_sealing_leaves_alone_what_another_process_is_writing(folder: Path) -> None:
    (folder / ".other.json.7.tmp").symlink_to(folder / "gone")  # listed, and renamed before it could be opened
    files.seal(folder)
    assert list(files.read_json(folder / files.SEAL)) == ["metadata.json"]


def test_publishing_replaces_the_old_folder_and_sweeps_what_a_killed_one_staged(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "siamese").mkdir(parents=True)
    (out / "siamese" / "old.png").write_bytes(b"old")
    (out / ".siamese.abc.tmp").mkdir()
    (out / ".siamese.abc.tmp" / "half.png").write_bytes(b"half")
    (out / ".siamese_x1.abc.tmp").mkdir()  # another output's
    files.publish(folder, out / "siamese")
    assert names(out) == ["siamese/.sums.json", "siamese/images/a.png", "siamese/metadata.json"]
    assert sorted(path.name for path in out.iterdir()) == [".siamese_x1.abc.tmp", "siamese"]


def refuse_to_rename(refused: Callable[[Path, Path], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let renamings of a source to a place fail where `refused` says so."""
    replace = os.replace

    def rename(source: Path, place: Path) -> None:
        if refused(source, place):
            raise PermissionError(13, "Permission denied")
        replace(source, place)

    monkeypatch.setattr(os, "replace", rename)


def test_publishing_puts_the_old_folder_back_where_it_cannot_be_replaced(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "siamese"
    files.write_bytes(target / "old.png", b"old")
    refuse_to_rename(lambda source, place: place == target and (source / "metadata.json").exists(), monkeypatch)
    with pytest.raises(PermissionError):
        files.publish(folder, target)
    assert names(tmp_path / "out") == ["siamese/old.png"]
    assert list((tmp_path / "out").iterdir()) == [target]


def test_the_old_folder_is_kept_aside_where_it_cannot_be_put_back(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "siamese"
    files.write_bytes(target / "old.png", b"old")
    refuse_to_rename(lambda _, place: place == target, monkeypatch)
    with pytest.raises(PermissionError):
        files.publish(folder, target)
    assert [path.name for path in (tmp_path / "out").rglob("*.png")] == ["old.png"]


def test_no_two_writers_of_a_file_share_a_temporary_name(tmp_path: Path) -> None:
    """Process numbers repeat on another host, and in another container on this one."""
    path = tmp_path / "a.json"
    with files.replacing(path) as first, files.replacing(path) as second:
        assert first != second and first.match(files.TEMPORARY)
        assert socket.gethostname()[:24] in first.name
        first.write_bytes(b"1")
        second.write_bytes(b"2")
    assert names(tmp_path) == ["a.json"] and path.read_bytes() == b"1"


def test_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert files.read_json(path) == {"a": 1}
    assert names(tmp_path) == ["a.json"]


def test_a_sealed_folder_knows_what_was_changed_or_lost(folder: Path, tmp_path: Path) -> None:
    assert not files.is_intact(folder)
    files.publish(folder, tmp_path / "out")
    out, before = tmp_path / "out", files.tree_sha256(folder)
    assert files.is_intact(out) and files.damaged(out) == []
    assert files.tree_sha256(out) == before  # the seal is no content
    (out / "images" / "a.png").write_bytes(b"b")
    assert files.is_intact(out)  # pictures have their hashes in the manifest of their set
    (out / "metadata.json").write_text('{"a": 2}')
    assert files.damaged(out) == [out / "metadata.json"]
    with pytest.raises(UserError, match=f"metadata.json is damaged.* remove {out} and run the stage"):
        files.check(out)
    (out / "metadata.json").unlink()
    assert not files.is_intact(out)


def test_a_seal_that_cannot_be_read_is_damage(folder: Path) -> None:
    files.seal(folder)
    (folder / files.SEAL).write_bytes(b"{")
    assert files.damaged(folder) == [folder / files.SEAL]


def test_sealed_json_is_read_back_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    assert files.read_sealed(path) is None
    files.write_sealed(path, [{"dice": 0.25}])
    assert files.read_sealed(path) == [{"dice": 0.25}]
    path.write_text(path.read_text().replace("0.25", "0.35"))
    assert files.read_sealed(path) is None
    files.write_json(path, [{"dice": 0.5}])  # of before seals
    assert files.read_sealed(path) == [{"dice": 0.5}]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device", "work/a.pt"), "work/a.pt cannot be"),
        (RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 640 vs 598"), "cannot be written"),
        (ValueError("shape"), None),
    ],
)
def test_a_full_disk_is_known_by_its_errors(error: Exception, told: str | None) -> None:
    found = files.write_failure(error)
    assert found is None if told is None else told in str(found)
