"""Find what a source reads: files of the study, files elsewhere, or the result of a query; and say if it changed."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from journeykit.config_sources import Source
from journeykit.credentials import from_environment, public_url, scrub
from journeykit.errors import JourneyError

CHUNK = 1 << 20  # bytes read at a time
URL = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://")
WILDCARDS = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True)
class RawFile(ABC):
    """One thing that a source reads: how it is called in reports, and whether it is the same as before."""

    name: str
    superseded_by: str = ""  # the name of the final file, when this is a draft of it that must not be read

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash of the content, which reads all of it unless the file system keeps such a hash."""

    @abstractmethod
    def mark(self) -> str:
        """Return a text that tells quickly, though not surely, whether the content is the same as before."""


@dataclass(frozen=True, kw_only=True)
class LocalFile(RawFile):
    """A file of this machine."""

    path: Path
    seen: tuple[int, int] | None = field(default=None, repr=False, compare=False)  # size and time when it was found

    def fingerprint(self) -> str:
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise self._gone(error) from None

    def mark(self) -> str:
        try:
            return str(self.path.stat().st_size)
        except OSError as error:
            raise self._gone(error) from None

    def refuse_changed(self, where: str) -> None:
        """Raise JourneyError when the file is not the one that was found, whose fingerprint its rows would carry."""
        try:
            now = _state(self.path)
        except OSError as error:
            raise self._gone(error) from None
        if self.seen and now != self.seen:
            raise JourneyError(
                f"{where}: the file changed while it was read. Put it there under another name, rename it when it is "
                "whole, and run again."
            )

    def _gone(self, error: OSError) -> JourneyError:
        return JourneyError(
            f"{self.name}: cannot be read: {error.strerror or error}. Check the file and its permissions."
        )


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True, kw_only=True)
class RemoteFile(RawFile):
    """A file of another file system, which fsspec knows."""

    location: str = field(repr=False)  # as the file system calls it; may hold a password
    url: str = field(repr=False)  # the path in journey.toml, to keep its secrets out of messages
    filesystem: Any = field(repr=False, compare=False)

    def fingerprint(self) -> str:
        known = _checksum(self._information())
        if known:
            return known
        digest = hashlib.sha256()
        try:
            with self.filesystem.open(self.location, "rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
        except Exception as error:  # each file system raises errors of its own
            raise unreachable(self.name, self.url, error) from None
        return digest.hexdigest()

    def mark(self) -> str:
        found = self._information()
        times = (found.get(key) for key in ("LastModified", "Last-Modified", "last_modified", "updated", "mtime"))
        return _checksum(found) or f"{found.get('size')} {next((str(time) for time in times if time), '')}".strip()

    def _information(self) -> dict[str, Any]:
        try:
            return dict(self.filesystem.info(self.location))
        except Exception as error:
            raise unreachable(self.name, self.url, error) from None


@dataclass(frozen=True, kw_only=True)
class QueryResult(RawFile):
    """The rows that a database returns for a query."""

    database: str = field(repr=False)  # its URL; may hold a password
    query: str = field(repr=False)
    folder: Path = field(repr=False)  # of the study, from which the path of a database file counts

    def fingerprint(self) -> str:
        from journeykit.adapters import database

        return database.fingerprint(self)

    def mark(self) -> str:
        return self.query


def _checksum(found: dict[str, Any]) -> str:
    """The hash of a file's content that its file system keeps, or "" when there is none to rely on."""
    for key in ("md5Hash", "content_md5", "Content-MD5", "ETag", "etag"):
        value = str(found.get(key) or "").strip('"')
        # A weak tag may stay the same when bytes change.
        if value and not value.startswith("W/"):
            return f"{key.lower()}:{value}:{found.get('size')}"
    return ""


def unreachable(name: str, url: str, error: Exception) -> JourneyError:
    """Return the error for a remote file that cannot be read, without its secrets."""
    if isinstance(error, ImportError):
        return JourneyError(f"{name}: {scrub(str(error), url)}. Install that package in .venv, then run again.")
    said = scrub(" ".join(str(error).split()), url)[:300] or type(error).__name__
    return JourneyError(f"{name} cannot be read: {said}. Check the address, the network and the permissions.")


def find_files(source: Source, folder: Path) -> list[RawFile]:
    """Return what a source reads, in the order of names; drafts of files that are there too say so.

    `source.path` is a pattern relative to the study or absolute, or a URL of any file system that fsspec knows. A
    wildcard does not stand for the dot at the start of a hidden file's name. With `source.database` it is one query.

    Raises:
        JourneyError: nothing matches, the pattern leaves the study or is none, or the place cannot be reached.
    """
    where = f"sources.{source.name}"
    if source.database:
        url = from_environment(source.database, f"{where}.database")
        name = f"{source.name} (query)"
        return [QueryResult(name=name, database=url, query=source.query, folder=folder)]
    found = _remote(source, folder, where) if URL.match(source.path) else _local(source.path, folder, f"{where}.path")
    if not found:
        raise JourneyError(
            f"{where}.path: {_shown(source.path)!r} matches no file"
            + ("" if URL.match(source.path) else f" in {folder.name}/")
            + ". Put the export there, or mend the path (wildcards * and ** are allowed)."
        )
    return _mark_drafts(sorted(found, key=lambda file: file.name), source.drafts)


def _shown(path: str) -> str:
    return "::".join(public_url(part) for part in path.split("::")) if URL.match(path) else path


def refuse_leaving(path: str, where: str) -> None:
    """Raise JourneyError when a relative path leaves the study's folder."""
    if not Path(path).is_absolute() and ".." in PurePosixPath(path).parts:
        raise JourneyError(
            f"{where}: {path!r} leaves the study's folder. Put the files into the study, "
            "or write an absolute path if a place outside of it is meant."
        )


def _local(pattern: str, folder: Path, where: str) -> list[RawFile]:
    """Return the files of this machine that match a pattern."""
    refuse_leaving(pattern, where)
    anchor = Path(pattern)
    base = Path(anchor.anchor) if anchor.is_absolute() else folder
    relative = pattern[len(anchor.anchor) :] if anchor.is_absolute() else pattern
    try:
        # A file whose own name holds a bracket is meant by its name.
        exact = base / relative
        found = [exact] if exact.is_file() else list(base.glob(relative))
    except (ValueError, NotImplementedError, OSError) as error:
        raise JourneyError(
            f"{where}: {pattern!r} is not a path: {getattr(error, 'strerror', None) or error}. Allowed are wildcards "
            "such as raw/*.csv, and ** for folders within folders: raw/**/*.csv."
        ) from None
    if not anchor.name.startswith("."):
        found = [path for path in found if not path.name.startswith(".")]
    lost = sorted(path.name for path in found if path.is_symlink() and not path.exists())
    if lost:
        raise JourneyError(
            f"{where}: {ascii(lost[0])[1:-1]} is a link that leads nowhere. Remove it, or put the file there."
        )
    paths = [path for path in found if path.is_file()]
    fixed = base.joinpath(*_before_wildcards(PurePosixPath(relative)).parts)
    return [_local_file(path, _local_name(path, folder, fixed), where) for path in paths]


def _local_file(path: Path, name: str, where: str) -> LocalFile:
    try:
        name.encode()
        return LocalFile(name=name, path=path, seen=_state(path))
    except UnicodeEncodeError:
        shown = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        raise JourneyError(f"{where}: the name of the file {shown} is not UTF-8. Rename it.") from None
    except OSError as error:
        raise LocalFile(name=name, path=path)._gone(error) from None


def _before_wildcards(pattern: PurePosixPath) -> PurePosixPath:
    """The folders of a pattern that hold no wildcard."""
    kept: list[str] = []
    for part in pattern.parts[:-1]:
        if WILDCARDS.search(part):
            break
        kept.append(part)
    return PurePosixPath(*kept)


def _local_name(path: Path, folder: Path, fixed: Path) -> str:
    """A file's name in reports: relative to the study, or else the part that wildcards stand for."""
    for base in (folder, fixed):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return path.name


def _remote(source: Source, folder: Path, where: str) -> list[RawFile]:
    """Return the files that match a URL, which may lead through an archive (`zip://*.csv::raw/export.zip`)."""
    if source.path.lower().startswith("file://"):
        return _local(fsspec.filesystem("file")._strip_protocol(source.path), folder, f"{where}.path")
    head, *rest = source.path.split("::")
    if rest and not URL.match(rest[-1]):
        refuse_leaving(rest[-1], f"{where}.path")
        rest[-1] = str(folder / rest[-1])
    shown = _shown(source.path)
    try:
        filesystem, location = url_to_fs("::".join([head, *rest]))
        filesystem.invalidate_cache()
        web = head.lower().startswith(("http://", "https://"))
        if "*" in location if web else WILDCARDS.search(location):
            locations = [place for place in filesystem.glob(location) if filesystem.isfile(place)]
        else:
            kind = filesystem.info(location).get("type")
            locations = [location] if kind == "file" else []
    except FileNotFoundError:
        return []
    except Exception as error:  # each file system raises errors of its own
        raise unreachable(f"{where}.path: {shown}", source.path, error) from None
    inside = "".join(f"::{_archive_name(part, folder)}" for part in rest)
    return [
        RemoteFile(
            name=public_url(str(filesystem.unstrip_protocol(place))) + inside,
            location=place,
            url=source.path,
            filesystem=filesystem,
        )
        for place in locations
    ]


def _archive_name(part: str, folder: Path) -> str:
    """How the place of an archive is shown: a local one relative to the study, or by its name alone."""
    if URL.match(part) and not part.lower().startswith("file://"):
        return public_url(part)
    path = Path(part.removeprefix("file://"))
    return _local_name(path, folder, path.parent)


def _mark_drafts(files: Sequence[RawFile], drafts: dict[str, str]) -> list[RawFile]:
    """Note for each draft whose final file is there too, which one that is."""
    names = {file.name for file in files}
    marked: list[RawFile] = []
    for file in files:
        finals = (file.name.replace(draft, final) for draft, final in drafts.items() if draft and draft in file.name)
        final = next((final for final in finals if final in names and final != file.name), "")
        marked.append(replace(file, superseded_by=final))
    return marked
