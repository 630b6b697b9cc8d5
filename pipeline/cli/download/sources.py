"""The files of a folder and of the zip archives in it, listed without unpacking; hostile archives are refused."""

import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from pipeline.core.errors import UserError

MOST_FILES = 200_000
UNREAD = {  # archives that Python does not unpack, and what does
    ".rar": "unrar x",
    ".7z": "7z x",
    ".tar": "tar -xf",
    ".tar.gz": "tar -xf",
    ".tgz": "tar -xf",
}
ENCRYPTED = 1  # bit of a member's flags


@dataclass(frozen=True)
class SourceFile:
    """One file: its path with the name of its archive or folder first, its size in bytes, and how to read it."""

    path: str
    size: int
    open: Callable[[], IO[bytes]]
    place: Path | None = None  # on disk; None: in an archive

    @property
    def name(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class Listing:
    """The files of what the user names, and archives in it that were not looked into."""

    files: tuple[SourceFile, ...]
    unread: tuple[Path, ...] = ()

    def hint(self) -> str:
        """Return what to do about archives that were not read; empty where there are none."""
        return "; ".join(f"{place.name} was not read, unpack it: {_unpacking(place)}" for place in self.unread)


def list_files(place: Path) -> Listing:
    """Return the files of a folder, those in its zip archives too, or of one zip archive.

    Hidden files are left out. Raises UserError for what is neither, for damaged and encrypted archives, and for
    members and links that lead elsewhere.
    """
    if place.is_dir():
        return _folder(place)
    if not place.is_file():
        raise UserError(f"--from: {place} does not exist")
    if _unpacking(place):
        raise UserError(f"--from: {place} cannot be unpacked here; {_unpacking(place)}, then name the folder")
    return Listing(tuple(_limited(place, _members(place))))


def _unpacking(place: Path) -> str:
    """Return the command that unpacks an archive of another format; empty for other files."""
    ending = next((ending for ending in UNREAD if place.name.lower().endswith(ending)), None)
    return f"{UNREAD[ending]} {place.name}" if ending else ""


def _folder(folder: Path) -> Listing:
    inside = folder.resolve()
    on_disk = [path for path in _walk(folder) if _stays(path, inside)]
    zips = [path for path in on_disk if path.suffix.lower() == ".zip"]
    unread = tuple(path for path in on_disk if _unpacking(path))
    files = [_plain(path, inside) for path in on_disk if path not in (*zips, *unread)]
    for archive in zips:
        files += _members(archive)
    return Listing(tuple(_limited(folder, files)), unread)


def _walk(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        yield from (Path(here) / name for name in sorted(names) if not _hidden(name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _stays(path: Path, inside: Path) -> bool:
    """Return whether it is a file. Raises UserError where it is a link out of the folder."""
    if not path.resolve().is_relative_to(inside):
        raise UserError(f"--from: {path} is a link that leads out of the folder; put the file itself there")
    return path.is_file()


def _plain(path: Path, inside: Path) -> SourceFile:
    below = PurePosixPath(inside.name, path.parent.resolve().relative_to(inside).as_posix(), path.name)
    return SourceFile(below.as_posix(), path.stat().st_size, lambda: path.open("rb"), path)


def _members(place: Path) -> Iterator[SourceFile]:
    try:
        archive = zipfile.ZipFile(place)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"--from: {place} is not a zip archive, or it is damaged ({error}); fetch it again") from None
    for member in archive.infolist():
        parts = PurePosixPath(member.filename.replace("\\", "/")).parts
        _check_member(place, member, parts)
        if not member.is_dir() and not any(_hidden(part) for part in parts):
            path = PurePosixPath(place.stem, *parts).as_posix()
            yield SourceFile(path, member.file_size, _opener(archive, member))


def _opener(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(member)


def _check_member(place: Path, member: zipfile.ZipInfo, parts: tuple[str, ...]) -> None:
    """Raise UserError where an archive holds what no published archive of pictures holds."""
    shown = ascii(member.filename)
    if ".." in parts or parts[:1] == ("/",) or (parts and ":" in parts[0]):
        raise UserError(
            f"--from: {place} holds {shown}, which leads out of the archive; this is not the published file"
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise UserError(f"--from: {place} holds the link {shown}; this is not the published file")
    if member.flag_bits & ENCRYPTED:
        raise UserError(f"--from: {place} is encrypted; unpack it yourself, then name the folder")


def _limited(place: Path, files: Iterator[SourceFile] | list[SourceFile]) -> Iterator[SourceFile]:
    for count, file in enumerate(files, 1):
        if count > MOST_FILES:
            raise UserError(f"--from: {place} holds more than {MOST_FILES} files; name the data set's own folder")
        yield file
