"""Unpack compressed files as a stream, and refuse those that are made to fill the disk."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow as pa

from journeykit.errors import JourneyError

CHUNK = 1 << 20  # bytes read at a time
LARGE = 1 << 30  # bytes; a file that unpacks to less is never refused
RATIO = 200  # unpacked bytes a packed byte; exports reach 5 to 50
DEFLATE = 1032  # unpacked bytes a byte, the most that gzip and zip can reach
SAMPLES, SAMPLE = 64, 4096  # places of a gzip file looked at, and bytes at each

MAGIC = {
    b"\x1f\x8b": "gz",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # an empty one
}
ENDINGS = {f".{kind}": kind for kind in MAGIC.values()}
FOREIGN = (".7z", ".rar", ".tar", ".tgz", ".tbz", ".txz", ".z", ".lz4", ".br")
DAMAGE = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    RuntimeError,
    NotImplementedError,
    ValueError,
)


def packing(path: Path, name: str, where: str) -> str:
    """Return how a file is packed: "", "gz", "bz2", "xz", "zst" or "zip". Its content decides, not its ending.

    Raises:
        JourneyError: an archive of another kind, or a damaged one.
    """
    ending = PurePosixPath(name.lower()).suffix
    if ending in FOREIGN:
        raise JourneyError(
            f"{where}: {ending} archives are not read. Unpack it and put the files themselves into the folder; "
            "a single file may be packed as .gz, .bz2, .xz, .zst or .zip."
        )
    with path.open("rb") as file:
        start = file.read(16)
    kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), "")
    if kind == "bz2" and start[4:10] != b"1AY&SY" and ending != ".bz2":
        kind = ""  # text that begins with the same letters
    if kind == "zip" and (ending in (".xlsx", ".xlsm") or _is_office(path)):
        kind = ""
    if not kind and ending in ENDINGS and (b"\x00" in start or any(byte < 9 for byte in start)):
        raise JourneyError(
            f"{where}: ends in {ending} but is not packed that way, or its beginning is damaged. Export it again."
        )
    return kind


def _is_office(path: Path) -> bool:
    """Whether a zip file is an Excel workbook or the like."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "[Content_Types].xml" in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def inner_name(path: Path, name: str, kind: str, where: str) -> str:
    """Return the name of what is packed in a file, whose ending says its format.

    Raises:
        JourneyError: a zip file that does not hold exactly one data file, or one file packed twice.
    """
    ending = PurePosixPath(name.lower()).suffix
    inner = name[: -len(ending)] if ending in ENDINGS else name
    if kind == "zip":
        with _archive(path, where) as archive:
            member = _member(archive, where)
        inner = member.filename if PurePosixPath(member.filename).suffix else inner
    last = PurePosixPath(inner.lower()).suffix
    if last in ENDINGS or last in FOREIGN:
        raise JourneyError(f"{where}: it is packed twice ({PurePosixPath(inner).name}). Unpack it once.")
    return inner


def _archive(path: Path, where: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except DAMAGE as error:
        raise _damaged(where, error) from None


def _member(archive: zipfile.ZipFile, where: str) -> zipfile.ZipInfo:
    """Return the one data file of a zip file."""
    members = [
        info
        for info in archive.infolist()
        if not info.is_dir()
        and not info.filename.startswith("__MACOSX/")
        and not PurePosixPath(info.filename).name.startswith(".")
    ]
    if len(members) != 1:
        names = ", ".join(PurePosixPath(info.filename).name for info in members[:5])
        raise JourneyError(
            f"{where}: the zip file holds {len(members)} files"
            + (f" ({names}{', …' if len(members) > 5 else ''})" if members else "")
            + "; allowed is exactly one. Unpack it and let path name the files."
        )
    return members[0]


def chunks(path: Path, kind: str, where: str, size: int = CHUNK) -> Iterator[bytes]:
    """Yield the unpacked bytes of a file, piece by piece.

    Raises:
        JourneyError: it is damaged or cut off, or unpacks to more than 1 GB and 200 times its size.
    """
    with ExitStack() as stack:
        try:
            stream, packed = _open(path, kind, where, stack)
        except JourneyError:
            raise
        except DAMAGE as error:
            raise _damaged(where, error) from None
        total = 0
        while True:
            try:
                piece = stream.read(size)
            except DAMAGE as error:
                raise _damaged(where, error, total) from None
            if not piece:
                return
            total += len(piece)
            if kind:
                refuse(total, packed, where)
            yield piece


def _open(path: Path, kind: str, where: str, stack: ExitStack) -> tuple[IO[bytes] | Any, int]:
    """Open a file for reading what is packed in it; return it with the packed size in bytes."""
    packed = path.stat().st_size
    match kind:
        case "gz":
            return stack.enter_context(gzip.open(path, "rb")), packed
        case "bz2":
            return stack.enter_context(bz2.open(path, "rb")), packed
        case "xz":
            return stack.enter_context(lzma.open(path, "rb")), packed
        case "zst":
            return stack.enter_context(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")), packed
        case "zip":
            archive = stack.enter_context(_archive(path, where))
            member = _member(archive, where)
            refuse(member.file_size, member.compress_size, where)
            return stack.enter_context(archive.open(member)), member.compress_size
        case _:
            return stack.enter_context(path.open("rb")), packed


def refuse(unpacked: int, packed: int, where: str) -> None:
    """Raise JourneyError when unpacked bytes are far more than packed ones, and many."""
    if unpacked > LARGE and unpacked > RATIO * packed:
        raise JourneyError(
            f"{where}: {packed / 1e6:,.1f} MB unpack to {unpacked / 1e9:,.1f} GB or more, over {RATIO} times as much. "
            "No export does that, and it would fill the disk. If it is meant, unpack it yourself."
        )


def _damaged(where: str, error: Exception, byte: int | None = None) -> JourneyError:
    # An error of the system names the path on this machine; only its reason is told.
    said = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())[:200]
    at = "" if byte is None else f" after byte {byte:,} of its content"
    return JourneyError(f"{where}: cannot be unpacked{at}: {said}. Export it again, or unpack it yourself.")


def refuse_bomb(path: Path, where: str) -> None:
    """Raise JourneyError for a gzip file that unpacks far beyond its size; an ordinary one is not unpacked.

    What unpacks to hundreds of times its size is itself full of repetition, so that a look at a few places tells.
    """
    packed = path.stat().st_size
    if packed * DEFLATE <= LARGE:
        return
    with path.open("rb") as file:
        file.seek(-4, 2)
        stated = int.from_bytes(file.read(4), "little")  # of the last part, and modulo 4 GB: a hint, no proof
        suspicious = stated > LARGE and stated > RATIO * packed
        for number in range(SAMPLES):
            file.seek(packed * number // SAMPLES)
            piece = file.read(SAMPLE)
            suspicious = suspicious or len(zlib.compress(piece, 1)) < len(piece) // 2
    if suspicious:
        for _ in chunks(path, "gz", where):
            pass


def unpack(path: Path, kind: str, target: Path, where: str) -> Path:
    """Write what is packed in a file to `target`, and return that."""
    with target.open("wb") as out:
        for piece in chunks(path, kind, where):
            out.write(piece)
    return target
