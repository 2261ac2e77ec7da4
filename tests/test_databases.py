"""Rows of real databases come back exactly: a PostgreSQL server on loopback, SQLite and DuckDB files."""

from __future__ import annotations

import datetime as dt
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from decimal import Decimal, localcontext
from pathlib import Path

import adbc_driver_postgresql.dbapi
import duckdb
import pyarrow.parquet as pq
import pytest

from journeykit import engine, events
from journeykit.adapters import Readable, database, readable
from journeykit.errors import JourneyError
from journeykit.raw_files import QueryResult, find_files
from tests.test_events import make_study
from tests.test_raw_files import make_source

PASSWORD = "hunter2"
ROWS = 50_000


def newest(program: str) -> Path | None:
    """A program of Debian's PostgreSQL package, or of the search path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: int(path.parts[4]))
    other = shutil.which(program)
    return found[-1] if found else Path(other) if other else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server that lives as long as the tests; it refuses to run as root."""
    initdb, control = newest("initdb"), newest("pg_ctl")
    if not initdb or not control:
        if os.environ.get("JOURNEYKIT_REQUIRE_POSTGRES"):
            pytest.fail("JOURNEYKIT_REQUIRE_POSTGRES is set and PostgreSQL's initdb is missing: install postgresql")
        pytest.skip("PostgreSQL's initdb is missing: install Debian's package postgresql")
    root = os.geteuid() == 0
    owner = pwd.getpwnam("postgres") if root else pwd.getpwuid(os.geteuid())
    identity = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if root else {}
    with tempfile.TemporaryDirectory(prefix="journeykit-postgres-") as folder, socket.socket() as probe:
        home = Path(folder)
        (home / "password").write_text(PASSWORD, encoding="utf-8")
        for path in (home, home / "password"):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()

        def call(*command: object) -> None:
            done = subprocess.run(
                [str(part) for part in command], cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **identity
            )
            assert done.returncode == 0, done.stderr.decode()

        data, options = (
            home / "data",
            f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off",
        )
        secret = ["-U", "ann", f"--pwfile={home / 'password'}", "-A", "scram-sha-256"]
        call(initdb, "-D", data, *secret, "-E", "UTF8", "--locale=C", "--no-sync")
        call(control, "-D", data, "-o", options, "-l", home / "log", "-w", "start")
        try:
            yield f"postgresql://ann:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            call(control, "-D", data, "-m", "immediate", "-w", "stop")


TYPES = f"""
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TYPE pair AS (f1 integer, f2 text);
CREATE SEQUENCE numbers_seq;
CREATE TABLE orders AS
SELECT
    n AS id,
    (n * 1.10)::numeric(12, 2) AS amount,
    CASE WHEN n % 3 > 0 THEN n * 0.123456789012345678901234567891 END AS exact,
    n / 10.0::float8 AS ratio,
    timestamptz '2025-03-30 01:59:59.123456+01' + n * interval '1 minute' AS at,
    timestamp '2025-01-01 00:00:00' + n * interval '1 second' AS local,
    date '2025-01-01' + n % 365 AS day,
    n % 2 = 0 AS paid,
    CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN 'say "hi", O''Neil\\n' || n
        ELSE 'größe 😀' || chr(10) || n END AS note,
    jsonb_build_object('n', n, 'list', jsonb_build_array(1, NULL, 'é')) AS data,
    json_build_object('b', n, 'a', 1.10) AS plain,
    ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid AS key,
    ARRAY[n, NULL, n + 1] AS numbers,
    ARRAY['a,b', '"q"', NULL] AS words,
    '10.0.0.1'::inet AS address,
    'glad'::mood AS feeling,
    interval '1 day 02:03:04' AS spent,
    decode(lpad(to_hex(n), 8, '0'), 'hex') AS bytes,
    ROW(n, 'x')::pair AS pair,
    NULL::text AS nothing
FROM generate_series(1, {ROWS}) AS n;
"""


@pytest.fixture(scope="session")
def orders(postgres: str) -> str:
    """The server's URL, with a table of 50,000 rows that has columns of many types."""
    import adbc_driver_postgresql.dbapi as driver

    with driver.connect(postgres, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in TYPES.strip().rstrip(";").split(";\n"):
            cursor.execute(statement)
    return postgres


def read(folder: Path, url: str, query: str) -> Readable:
    source = make_source(database=url, query=query)
    (file,) = find_files(source, folder)
    (folder / "scratch").mkdir(exist_ok=True)
    return readable(source, file, folder / "scratch")


def table(made: Readable) -> list[dict[str, str | None]]:
    assert made.format == "parquet"
    return pq.read_table(made.path).to_pylist()


def expected(n: int) -> dict[str, str | None]:
    """The row `n` of the table, as it must come back."""
    with localcontext() as context:
        context.prec = 60
        exact = n * Decimal("0.123456789012345678901234567891")
    at = dt.datetime(2025, 3, 30, 0, 59, 59, 123456) + dt.timedelta(minutes=n)
    local = dt.datetime(2025, 1, 1) + dt.timedelta(seconds=n)
    notes = {0: None, 1: "", 2: f'say "hi", O\'Neil\\n{n}', 3: f"größe 😀\n{n}"}
    return {
        "id": str(n),
        "amount": f"{Decimal(n) * Decimal('1.10'):.2f}",
        "exact": None if n % 3 == 0 else f"{exact:f}",
        "ratio": repr(n / 10).removesuffix(".0"),
        "at": f"{at.isoformat(sep=' ')}+00",
        "local": local.isoformat(sep=" "),
        "day": (dt.date(2025, 1, 1) + dt.timedelta(days=n % 365)).isoformat(),
        "paid": "true" if n % 2 == 0 else "false",
        "note": notes[n % 4],
        "data": f'{{"n": {n}, "list": [1, null, "é"]}}',
        "plain": f'{{"b" : {n}, "a" : 1.10}}',
        "key": f"00000000-0000-0000-0000-{n:012d}",
        "numbers": f"[{n},null,{n + 1}]",
        "words": '["a,b","\\"q\\"",null]',
        "address": "10.0.0.1/32",
        "feeling": "glad",
        "spent": "P1DT2H3M4S",
        "bytes": f"{n:08x}",
        "pair": f'{{"f1":{n},"f2":"x"}}',
        "nothing": None,
    }


def test_every_type_of_postgresql_comes_back_exactly(orders: str, tmp_path: Path) -> None:
    made = read(tmp_path, orders, "SELECT * FROM orders ORDER BY id;  ")
    rows = table(made)
    assert len(rows) == ROWS
    for n in (1, 2, 3, 4, 30, 9_999, ROWS):
        assert rows[n - 1] == expected(n)
    assert all(row == expected(n) for n, row in enumerate(rows, start=1))


def test_the_result_has_a_fingerprint_of_its_rows(orders: str, tmp_path: Path) -> None:
    query = "SELECT id, note FROM orders WHERE id < 30000 ORDER BY id"
    (file,) = find_files(make_source(database=orders, query=query), tmp_path)
    first = read(tmp_path, orders, query).fingerprint
    assert first == file.fingerprint() == read(tmp_path, orders, f"WITH x AS ({query}) SELECT * FROM x").fingerprint
    others = [
        "SELECT id, note FROM orders WHERE id < 29999 ORDER BY id",
        "SELECT id, note FROM orders WHERE id < 30000 ORDER BY id DESC",
        "SELECT id, coalesce(note, '') AS note FROM orders WHERE id < 30000 ORDER BY id",
        "SELECT id, note AS remark FROM orders WHERE id < 30000 ORDER BY id",
    ]
    assert len({first, *(read(tmp_path, orders, other).fingerprint for other in others)}) == 5


def test_an_empty_result_keeps_its_columns(orders: str, tmp_path: Path) -> None:
    made = read(tmp_path, orders, "SELECT id, at -- a comment\nFROM orders WHERE false -- none")
    assert pq.read_table(made.path).schema.names == ["id", "at"]
    assert table(made) == []


def test_the_engine_reads_the_rows(orders: str, tmp_path: Path) -> None:
    made = read(tmp_path, orders, "SELECT amount, at FROM orders WHERE id = 1")
    assert engine.rows(f"SELECT * FROM read_parquet('{made.path}')") == [("1.10", "2025-03-30 01:00:59.123456+00")]


def test_a_password_from_the_environment(orders: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_URL", orders.replace("postgresql://", "postgres://"))
    assert table(read(tmp_path, "$SHOP_URL", "SELECT 12.10::numeric(12,2) AS a")) == [{"a": "12.10"}]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT * FROM order", "syntax error"),
        ("SELECT * FROM missing", r'relation "missing" does not exist'),
        ("SELECT i FROM orders", 'column "i" does not exist'),
        ("SELECT 1 AS a, 2 AS a", "comes twice"),
        ("SELECT 1 / (id - 40000) AS x FROM orders", "division by zero"),
        ("SELECT 1 AS a; DROP TABLE orders", "syntax error"),
        ("SELECT 1 AS a) AS x; DROP TABLE orders; --", r"multiple commands|syntax error"),
        ("WITH gone AS (DELETE FROM orders RETURNING id) SELECT * FROM gone", "data-modifying"),
        ("SELECT nextval('numbers_seq') AS a", "read-only transaction"),
        ("DELETE FROM orders", "must be one SELECT"),
        ("-- SELECT\nDROP TABLE orders", "must be one SELECT"),
        ("", "must be one SELECT"),
    ],
)
def test_a_bad_query_is_a_clear_error_and_changes_nothing(orders: str, tmp_path: Path, query: str, said: str) -> None:
    file = QueryResult(name="shop (query)", database=orders, query=query, folder=tmp_path)
    with pytest.raises(JourneyError, match=said) as caught:
        file.fingerprint()
    assert PASSWORD not in str(caught.value)
    assert str(caught.value).startswith("shop (query): ")
    assert table(read(tmp_path, orders, "SELECT count(*) AS n FROM orders")) == [{"n": str(ROWS)}]


def test_a_failing_connection_shows_no_password(postgres: str, tmp_path: Path) -> None:
    for url, said in (
        (postgres.replace(PASSWORD, "wr0ng"), "password authentication failed"),
        (postgres.replace("ann:", "bob:"), "password authentication failed"),
        (postgres.replace("/postgres", "/nowhere"), 'database "nowhere" does not exist'),
        (f"postgresql://ann:{PASSWORD}@127.0.0.1:9/postgres", "onnection refused"),
        (f"postgresql://127.0.0.1:9/postgres?user=ann&password={PASSWORD}", "onnection refused"),
        (f"postgresql://ann:{PASSWORD}@127.0.0.1:port/postgres", "invalid"),
    ):
        with pytest.raises(JourneyError, match=said) as caught:
            read(tmp_path, url, "SELECT 1 AS a")
        assert not any(secret in str(caught.value) for secret in (PASSWORD, "wr0ng", '"ann"', '"bob"', "ann:"))


MEMORY = """
import sys
from pathlib import Path
from journeykit.adapters import database
from journeykit.raw_files import QueryResult
file = QueryResult(name="q", database=sys.argv[1], query=sys.argv[2], folder=Path(sys.argv[3]))
database.extract(file, Path(sys.argv[3]) / "a.parquet")
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""
WIDE = "SELECT n AS id, CAST(n AS {text}) || repeat('x', 1000) AS note FROM {numbers} AS r(n)"


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("kind", ["postgresql", "duckdb"])
def test_a_large_result_passes_in_little_memory(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    if kind == "postgresql":
        url, numbers = request.getfixturevalue("postgres"), "generate_series(1, 400000)"
    else:
        duckdb.connect(str(tmp_path / "a.duckdb")).close()
        url, numbers = "duckdb:///a.duckdb", "range(1, 400001)"
    query = WIDE.format(text="text" if kind == "postgresql" else "VARCHAR", numbers=numbers)
    command = [sys.executable, "-c", MEMORY, url, query, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert pq.read_metadata(tmp_path / "a.parquet").num_rows == 400_000
    assert int(done.stdout) * 1024 < 380_000_000, "peak resident memory in bytes, for 400 MB of rows"


# SQLite


def test_rows_of_a_sqlite_file(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    values = [
        (1, "größe 😀", 0.1, b"\x00\xff", None),
        (2**62, "", 12.5, b"", "x"),
        ("late text", 'say "hi"\n', 1e300, None, 5),
    ] + [(n, f"row {n}", n / 3, None, None) for n in range(ROWS - 3)]
    with sqlite3.connect(tmp_path / "raw" / "shop's.db") as connection:
        connection.execute("CREATE TABLE t (a, note TEXT, x REAL, bytes BLOB, mixed)")
        connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", values)
        connection.execute("INSERT INTO t (a, note) VALUES (7, CAST(x'61ff62' AS TEXT))")
    connection.close()
    before = {path.name: path.read_bytes() for path in (tmp_path / "raw").iterdir()}
    rows = [tuple(row.values()) for row in table(read(tmp_path, "sqlite:///raw/shop's.db", "SELECT * FROM t"))]
    assert rows[:3] == [
        ("1", "größe 😀", "0.1", "00ff", None),
        (str(2**62), "", "12.5", "", "x"),
        ("late text", 'say "hi"\n', "1e+300", None, "5"),
    ]
    assert rows[3:-1] == [(str(n), f"row {n}", repr(n / 3), None, None) for n in range(ROWS - 3)]
    assert rows[-1][1] == "a\ufffdb"
    assert {path.name: path.read_bytes() for path in (tmp_path / "raw").iterdir()} == before, "raw/ is not written"
    assert len(table(read(tmp_path, f"sqlite:///{tmp_path}/raw/shop's.db", "SELECT * FROM t LIMIT 5"))) == 5


def test_a_sqlite_file_with_a_log_of_pending_changes(tmp_path: Path) -> None:
    writer = sqlite3.connect(tmp_path / "a.db")
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE t AS SELECT 1 AS a")
    writer.commit()
    assert (tmp_path / "a.db-wal").stat().st_size
    assert table(read(tmp_path, "sqlite:///a.db", "SELECT a FROM t")) == [{"a": "1"}]
    writer.close()


# DuckDB


def make_duckdb(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT n AS id, (n * 1.10)::DECIMAL(12, 2) AS amount, "
            "TIMESTAMPTZ '2025-03-30 01:59:59.123456+01' AS at, "
            "CASE WHEN n % 2 = 0 THEN 'say \"hi\"' || chr(10) || '😀' END AS note, "
            "'{\"a\": 1.10}'::JSON AS data, ('00000000-0000-0000-0000-' || lpad(n::VARCHAR, 12, '0'))::UUID AS key, "
            "[n, NULL] AS list, {'x': n, 'y': 'é'} AS pair, MAP {'k': n} AS map, "
            "170141183460469231731687303715884105727::HUGEINT AS huge, '\\x01\\xFF'::BLOB AS bytes, "
            f"0.1::DOUBLE AS ratio, DATE '2025-01-01' AS day, true AS ok FROM range({ROWS}) AS r(n)"
        )


def test_rows_of_a_duckdb_file(tmp_path: Path) -> None:
    make_duckdb(tmp_path / "a.duckdb")
    before = (tmp_path / "a.duckdb").read_bytes()
    rows = table(read(tmp_path, "duckdb:///a.duckdb", "SELECT * FROM t ORDER BY id"))
    assert len(rows) == ROWS
    for n, row in enumerate(rows):
        assert row == {
            "id": str(n),
            "amount": f"{n * 110 // 100}.{n * 110 % 100:02d}",
            "at": "2025-03-30 00:59:59.123456+00",
            "note": 'say "hi"\n😀' if n % 2 == 0 else None,
            "data": '{"a": 1.10}',
            "key": f"00000000-0000-0000-0000-{n:012d}",
            "list": f"[{n},null]",
            "pair": f'{{"x":{n},"y":"é"}}',
            "map": f'{{"k":{n}}}',
            "huge": "170141183460469231731687303715884105727",
            "bytes": "01ff",
            "ratio": "0.1",
            "day": "2025-01-01",
            "ok": "true",
        }
    assert (tmp_path / "a.duckdb").read_bytes() == before


def test_a_query_of_a_duckdb_file_reaches_no_other_file(tmp_path: Path) -> None:
    make_duckdb(tmp_path / "a.duckdb")
    (tmp_path / "other.csv").write_text("secret\n1\n")
    with pytest.raises(JourneyError, match=r"(?i)disabled|permission"):
        read(tmp_path, "duckdb:///a.duckdb", f"SELECT * FROM read_csv('{tmp_path}/other.csv')")


# Files and addresses that are wrong, and other databases


@pytest.mark.parametrize(
    ("url", "query", "said"),
    [
        ("sqlite:///raw/missing.db", "SELECT 1 AS a", "no database file 'raw/missing.db'"),
        ("duckdb:////nowhere/missing.db", "SELECT 1 AS a", "no database file 'missing.db'"),
        ("sqlite:///../a.db", "SELECT 1 AS a", "absolute path"),
        ("sqlite:///text.db", "SELECT 1 AS a FROM sqlite_master", "not a database"),
        ("duckdb:///text.db", "SELECT 1 AS a", "not a valid DuckDB database"),
        ("sqlite:///a.db", "SELECT * FROM missing", "no such table: missing"),
        ("sqlite:///a.db", "WITH x AS (SELECT 1) DELETE FROM t", "readonly database"),
        ("sqlite:///a.db", "SELECT 1 AS a; DROP TABLE t", "one statement"),
        ("sqlite:///a.db", "SELECT 1 AS a, 2 AS A", "comes twice"),
        ("raw/a.db", "SELECT 1 AS a", "not a URL"),
        (f"nosuch://ann:{PASSWORD}@host/db", "SELECT 1 AS a", "'nosuch' cannot be opened"),
        (f"oracle+nosuch://ann:{PASSWORD}@host/db", "SELECT 1 AS a", "cannot be opened"),
    ],
)
def test_a_wrong_address_or_query_is_a_clear_error(tmp_path: Path, url: str, query: str, said: str) -> None:
    if url.startswith(("nosuch", "oracle")):
        pytest.importorskip("sqlalchemy")
    (tmp_path / "text.db").write_text("no database " * 500)
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
    connection.close()
    with pytest.raises(JourneyError, match=said) as caught:
        read(tmp_path, url, query)
    assert not any(secret in str(caught.value) for secret in (PASSWORD, str(tmp_path)))


def test_other_databases_are_read_through_sqlalchemy(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a, 'x:y %s' AS b, NULL AS c")
        connection.executemany("INSERT INTO t VALUES (?, ?, ?)", ((n, "é", 0.1) for n in range(ROWS)))
    connection.close()
    rows = table(read(tmp_path, f"sqlite+pysqlite:///{tmp_path}/a.db", "SELECT * FROM t WHERE b <> ':no %'"))
    assert rows[0] == {"a": "1", "b": "x:y %s", "c": None}
    assert rows[1:] == [{"a": str(n), "b": "é", "c": "0.1"} for n in range(ROWS)]


def test_without_sqlalchemy_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(JourneyError, match="Install sqlalchemy and its driver for 'mysql'"):
        read(tmp_path, f"mysql://ann:{PASSWORD}@host/db", "SELECT 1 AS a")


def test_the_hash_does_not_depend_on_how_rows_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a, NULL AS b")
        connection.executemany("INSERT INTO t VALUES (?, ?)", ((n, "é" * (n % 5)) for n in range(100)))
    connection.close()
    found = set()
    for size in (1, 7, 100, 10_000):
        monkeypatch.setattr(database, "BATCH_ROWS", size)
        monkeypatch.setattr(database, "GROUP_BYTES", size)
        made = read(tmp_path, "sqlite:///a.db", "SELECT * FROM t")
        assert len(table(made)) == 101
        found.add(made.fingerprint)
    assert len(found) == 1


STUDY = """
[[sources]]
name = "orders"
database = "$ORDERS_DB"
query = "SELECT placed_at, who, total FROM placed"
time = { column = "placed_at" }
event = { constant = "order" }
value = "total"
identifiers = { customer = "who" }
"""
PLACED = "(1, '2025-03-01 10:00:00', 12.10), (2, '2025-03-02 10:00:00', 0.20), (3, NULL, 1)"


@pytest.mark.parametrize("kind", ["postgresql", "sqlite", "duckdb"])
def test_a_study_reads_a_database_and_reads_it_again_when_its_rows_change(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def run(statement: str) -> None:
        if kind == "postgresql":
            with (
                adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(statement)
        elif kind == "sqlite":
            with sqlite3.connect(tmp_path / "shop.db") as connection:
                connection.execute(statement)
        else:
            with duckdb.connect(str(tmp_path / "shop.db")) as connection:
                connection.execute(statement)

    url = request.getfixturevalue("postgres") if kind == "postgresql" else f"{kind}:///shop.db"
    monkeypatch.setenv("ORDERS_DB", url)
    run("DROP TABLE IF EXISTS placed")
    moment = "TIMESTAMPTZ" if kind == "postgresql" else "VARCHAR(30)"
    run(f"CREATE TABLE placed (who INTEGER, placed_at {moment}, total NUMERIC(12, 2))")
    run(f"INSERT INTO placed (who, placed_at, total) VALUES {PLACED}")
    opened = make_study(tmp_path, STUDY, {})
    assert events.ingest(opened)
    files = engine.fetch(opened.table("files")).iloc[0]
    assert (files["file"], files["read_n"], files["kept_n"], files["quarantined_n"]) == ("orders (query)", 3, 2, 1)
    found = engine.fetch(opened.table("events"))
    assert found["value"].tolist() == [12.1, 0.2]
    assert found["timestamp"].astype(str).tolist() == ["2025-03-01 10:00:00", "2025-03-02 10:00:00"]
    assert not events.ingest(opened)
    run("UPDATE placed SET placed_at = '2025-03-03 10:00:00' WHERE who = 3")
    assert events.ingest(opened)
    assert len(engine.fetch(opened.table("events"))) == 3
