"""Files: what a killed process left half written is neither published nor hashed."""

from pathlib import Path

import pytest

from pipeline import files


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
    assert names(tmp_path / "out") == ["siamese/images/a.png", "siamese/metadata.json"]


def test_temporary_files_are_not_hashed(folder: Path) -> None:
    before = files.tree_sha256(folder)
    (folder / "images" / ".a.png.12.tmp").unlink()
    assert files.tree_sha256(folder) == before
    (folder / "images" / "a.png").write_bytes(b"b")
    assert files.tree_sha256(folder) != before


def test_publishing_replaces_the_old_folder_and_sweeps_what_a_killed_one_staged(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "siamese").mkdir(parents=True)
    (out / "siamese" / "old.png").write_bytes(b"old")
    (out / ".siamese.abc.tmp").mkdir()
    (out / ".siamese.abc.tmp" / "half.png").write_bytes(b"half")
    (out / ".siamese_x1.abc.tmp").mkdir()  # another output's
    files.publish(folder, out / "siamese")
    assert names(out) == ["siamese/images/a.png", "siamese/metadata.json"]
    assert sorted(path.name for path in out.iterdir()) == [".siamese_x1.abc.tmp", "siamese"]


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
