"""Finding what a source reads: names without secrets and machine paths, drafts, refusals, and marks of change."""

from __future__ import annotations

import hashlib
import http.server
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from journeykit.config_sources import Source
from journeykit.credentials import from_environment, public_url, scrub
from journeykit.errors import JourneyError
from journeykit.raw_files import QueryResult, find_files


def make_source(path: str = "", **keys: object) -> Source:
    return Source.model_validate({"name": "shop", "path": path, "time": {"column": "at"}, "event": "event", **keys})


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")


def names(path: str, folder: Path, **keys: object) -> list[str]:
    return [file.name for file in find_files(make_source(path, **keys), folder)]


def test_local_files_are_named_within_the_study_and_sorted(tmp_path: Path) -> None:
    put(tmp_path, "raw/b.csv", "raw/a.csv", "raw/deep/c.csv", "raw/.hidden.csv", "raw/a.txt")
    assert names("raw/*.csv", tmp_path) == ["raw/a.csv", "raw/b.csv"]
    assert names("raw/**/*.csv", tmp_path) == ["raw/a.csv", "raw/b.csv", "raw/deep/c.csv"]
    assert names("raw/.*.csv", tmp_path) == ["raw/.hidden.csv"]
    assert names(f"{tmp_path}/raw/*.csv", tmp_path) == ["raw/a.csv", "raw/b.csv"]


def test_a_name_with_brackets_is_meant_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, "raw/export [1].csv", "raw/export 1.csv")
    assert names("raw/export [1].csv", tmp_path) == ["raw/export [1].csv"]


def test_files_outside_of_the_study_never_show_where_they_lie(tmp_path: Path) -> None:
    study, other = tmp_path / "study", tmp_path / "elsewhere"
    put(study, "raw/a.csv")
    put(other, "2024/a.csv", "2025/a.csv")
    assert names(f"{other}/*/a.csv", study) == ["2024/a.csv", "2025/a.csv"]
    assert names(f"{other}/2024/a.csv", study) == ["a.csv"]
    assert names(f"file://{other}/*/a.csv", study) == ["2024/a.csv", "2025/a.csv"]


def test_a_pattern_that_leaves_the_study_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "study/raw/a.csv", "secret.csv")
    for path in ("../*.csv", "raw/../../*.csv", "zip://*.csv::../a.zip"):
        with pytest.raises(JourneyError, match="absolute path"):
            find_files(make_source(path), tmp_path / "study")
    (tmp_path / "study" / "raw" / "linked.csv").symlink_to(tmp_path / "secret.csv")
    assert names("raw/l*.csv", tmp_path / "study") == ["raw/linked.csv"]


@pytest.mark.parametrize(
    "path", ["raw/*.tsv", "raw", "nowhere/a.csv", "memory://none/*.csv", "memory://none/a.csv", "a\0.csv"]
)
def test_nothing_found_is_an_error_that_says_where(tmp_path: Path, path: str) -> None:
    put(tmp_path, "raw/a.csv", "raw/b/c.csv")
    with pytest.raises(JourneyError, match=r"sources\.shop\.path") as caught:
        find_files(make_source(path), tmp_path)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="newer versions of Python read ** there as *")
def test_stars_that_are_no_pattern_are_explained(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match=r"raw/\*\*/\*\.csv"):
        find_files(make_source("raw/**.csv"), tmp_path)


def test_drafts_give_way_to_their_final_files(tmp_path: Path) -> None:
    put(tmp_path, "raw/events_20250101.csv", "raw/events_intraday_20250101.csv", "raw/events_intraday_20250102.csv")
    found = find_files(make_source("raw/*.csv", drafts={"events_intraday_": "events_"}), tmp_path)
    assert [(file.name, file.superseded_by) for file in found] == [
        ("raw/events_20250101.csv", ""),
        ("raw/events_intraday_20250101.csv", "raw/events_20250101.csv"),
        ("raw/events_intraday_20250102.csv", ""),
    ]


def test_fingerprint_and_mark_of_a_local_file(tmp_path: Path) -> None:
    put(tmp_path, "raw/a.csv")
    (file,) = find_files(make_source("raw/a.csv"), tmp_path)
    assert file.fingerprint() == hashlib.sha256(b"raw/a.csv").hexdigest()
    assert file.mark() == "9"


def test_files_in_memory_and_within_an_archive(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/2025/a.csv", b"one")
    memory.pipe("/bucket/2024/a.csv", b"two")
    try:
        found = find_files(make_source("memory://bucket/*/a.csv"), tmp_path)
        assert [file.name for file in found] == ["memory:///bucket/2024/a.csv", "memory:///bucket/2025/a.csv"]
        assert found[1].fingerprint() == hashlib.sha256(b"one").hexdigest()
        before = found[1].mark()
        memory.pipe("/bucket/2025/a.csv", b"changed")
        assert found[1].mark() != before
    finally:
        memory.rm("/bucket", recursive=True)
    (tmp_path / "raw").mkdir()
    with zipfile.ZipFile(tmp_path / "raw" / "export.zip", "w") as archive:
        archive.writestr("a.csv", "one")
        archive.writestr("b.csv", "two")
    assert names("zip://*.csv::raw/export.zip", tmp_path) == [
        "zip://a.csv::raw/export.zip",
        "zip://b.csv::raw/export.zip",
    ]
    assert names(f"zip://*.csv::file://{tmp_path}/raw/export.zip", tmp_path / "study") == [
        "zip://a.csv::export.zip",
        "zip://b.csv::export.zip",
    ]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a web server with one file."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "a.csv").write_text("at,event\n1,2\n", encoding="utf-8")
    handler = lambda *given: _Quiet(*given, directory=str(tmp_path / "www"))  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://ann:hunter2@127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_web_address_shows_no_password_and_no_signature(web: str, tmp_path: Path) -> None:
    (file,) = find_files(make_source(f"{web}/a.csv?signature=s3cr3t"), tmp_path)
    assert file.name == f"http://{web.rpartition('@')[2]}/a.csv"
    assert file.fingerprint() == hashlib.sha256(b"at,event\n1,2\n").hexdigest()
    assert not any(secret in repr(file) for secret in ("hunter2", "s3cr3t"))
    for address in (f"{web}/missing.csv?signature=s3cr3t", "http://ann:hunter2@127.0.0.1:9/a.csv?signature=s3cr3t"):
        with pytest.raises(JourneyError, match=r"sources\.shop\.path") as caught:
            find_files(make_source(address), tmp_path)
        assert not any(secret in str(caught.value) for secret in ("hunter2", "s3cr3t", "ann:"))


def test_a_file_system_that_is_not_installed_or_not_known_says_so(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match=r"nosuch"):
        find_files(make_source("nosuch://bucket/a.csv"), tmp_path)


def test_a_database_is_one_result_and_hides_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source(database="$SHOP_DATABASE", query="SELECT 1 AS at")
    with pytest.raises(JourneyError, match="SHOP_DATABASE is not set"):
        find_files(source, tmp_path)
    monkeypatch.setenv("SHOP_DATABASE", "postgresql://ann:hunter2@host/db")
    (file,) = find_files(source, tmp_path)
    assert isinstance(file, QueryResult)
    assert (file.name, file.mark()) == ("shop (query)", "SELECT 1 AS at")
    assert "hunter2" not in repr(file)
    assert from_environment("$SHOP_DATABASE", "x") == "postgresql://ann:hunter2@host/db"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://key:secret@bucket/a.csv", "s3://bucket/a.csv"),
        ("https://host/a.csv?token=x#part", "https://host/a.csv"),
        ("memory://a/b.csv", "memory://a/b.csv"),
        ("http://[broken/a.csv", "http://…"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert public_url(url) == shown


def test_messages_lose_secrets_however_they_are_written() -> None:
    url = "postgresql://ann:p%40ss@host/db?password=other&sslmode=require"
    said = scrub('host db refused "ann" with p@ss, p%40ss, other; planning annual sslmode=require', url)
    assert said == 'host db refused "***" with ***, ***, ***; planning annual sslmode=require'
