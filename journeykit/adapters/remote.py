"""Copy files from other file systems to this machine."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath

from journeykit.adapters import packed
from journeykit.errors import JourneyError
from journeykit.raw_files import CHUNK, RemoteFile, unreachable


def fetch(file: RemoteFile, target: Path, where: str) -> tuple[Path, str]:
    """Copy a remote file beside `target`, piece by piece; return the copy and the SHA-256 of its bytes.

    The copy keeps the endings of its name, by which readers know the format.

    Raises:
        JourneyError: it cannot be read, or is a member of an archive that unpacks far beyond its size.
    """
    name = PurePosixPath(file.name.split("::")[0]).name.lower()
    endings = re.search(r"(\.[a-z0-9]{1,8}){1,2}$", name)
    copy = target.with_name(target.name + "_copy" + (endings[0] if endings else ""))
    digest = hashlib.sha256()
    size = 0
    try:
        small = int(file.filesystem.info(file.location).get("compress_size") or 0)
        with file.filesystem.open(file.location, "rb") as source, copy.open("wb") as out:
            while piece := source.read(CHUNK):
                size += len(piece)
                if small:
                    packed.refuse(size, small, where)
                digest.update(piece)
                out.write(piece)
    except JourneyError:
        raise
    except Exception as error:  # each file system raises errors of its own
        raise unreachable(where, file.url, error) from None
    return copy, digest.hexdigest()
