"""One file of an archive as a stream, so that a dump need not be unpacked to disk first."""

from __future__ import annotations

import contextlib
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from meadowlark.errors import UserError

SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c"


@contextlib.contextmanager
def open_member(raw: Path, name: str) -> Iterator[IO[bytes]]:
    """``raw`` itself, or the member called ``name`` of a .zip or .7z, opened for reading.

    A folder is looked into. Memory stays bounded whatever the member's size.
    """
    if raw.is_dir():
        if not (raw / name).is_file():
            raise UserError(f"{raw} holds no {name}")
        raw = raw / name
    with raw.open("rb") as file:
        magic = file.read(6)
    if magic == SEVEN_ZIP:
        with _seven_zip(raw, name) as stream:
            yield stream
    elif zipfile.is_zipfile(raw):
        with zipfile.ZipFile(raw) as archive:
            found = [each for each in archive.namelist() if each.rpartition("/")[2] == name]
            if not found:
                raise UserError(f"{raw} holds no {name}")
            with archive.open(found[0]) as stream:
                yield stream
    else:
        with raw.open("rb") as stream:
            yield stream


@contextlib.contextmanager
def _seven_zip(raw: Path, name: str) -> Iterator[IO[bytes]]:
    """A member that a thread unpacks into a pipe while it is read."""
    try:
        import py7zr
    except ImportError:
        raise UserError(
            f"{raw} is read with the package py7zr: pip install 'meadowlark[sources]'"
        ) from None
    failed: list[BaseException] = []
    read, write = os.pipe()

    class _Pipe(py7zr.io.Py7zIO):
        """The end of a pipe as what py7zr unpacks into."""

        def write(self, s: bytes | bytearray) -> int:
            view = memoryview(s)
            while view:
                view = view[os.write(write, view) :]
            return len(s)

        def read(self, size: int | None = None) -> bytes:
            return b""

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

        def flush(self) -> None:
            pass

        def size(self) -> int:
            return 0

    class _Factory(py7zr.io.WriterFactory):
        def create(self, filename: str) -> Any:
            return _Pipe()

    def unpack(member: str) -> None:
        try:
            with py7zr.SevenZipFile(raw) as archive:
                archive.extract(targets=[member], factory=_Factory())
        except BrokenPipeError:
            pass  # the reader has seen enough
        except BaseException as error:  # raised again where the stream is read
            failed.append(error)
        finally:
            os.close(write)

    try:
        with py7zr.SevenZipFile(raw) as archive:
            found = [each for each in archive.getnames() if each.rpartition("/")[2] == name]
    except py7zr.exceptions.ArchiveError as error:
        os.close(read)
        os.close(write)
        raise UserError(f"{raw} is not a readable .7z archive: {error}") from None
    if not found:
        os.close(read)
        os.close(write)
        raise UserError(f"{raw} holds no {name}")
    thread = threading.Thread(target=unpack, args=(found[0],), daemon=True)
    thread.start()
    try:
        with os.fdopen(read, "rb") as stream:
            yield stream
    finally:
        thread.join()
    if failed:
        raise UserError(f"{raw} could not be unpacked to its end: {failed[0]}") from None
