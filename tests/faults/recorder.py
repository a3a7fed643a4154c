"""A disk that remembers: a file system in user space whose files are disk images, with every write and flush on record.

Why here: what a power cut leaves is any state that the flushes allow, and only below the file system is that seen.
Must not: touch the file systems that stand on its own images, which would wait for itself.

Speaks the kernel's FUSE protocol (linux/fuse.h) over /dev/fuse, so it needs no library. Everything is answered in the
order in which it comes, so the record is one order over all disks and marks.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

import msgspec


class _Call(IntEnum):
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    BATCH_FORGET = 42


_HEADER = struct.Struct("<IIQQIIIHH")
_ANSWER = struct.Struct("<IiQ")
_ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
_INIT_ANSWER = struct.Struct("<IIIIHHIIHHI28x")
_READING = struct.Struct("<QQII")
_WRITING = struct.Struct("<QQIIQII")
_DIRECT = 1
_FOREVER = 1 << 30
_REQUEST = 1 << 20
_ROOT = 1
_MARKS = "marks"
_LARGEST_WRITE = 128 * 1024


class Event(msgspec.Struct, frozen=True, array_like=True):
    """One entry of the record: a write (``data`` at ``offset`` of disk ``where``), a flush of it, or a mark."""

    kind: str
    where: str
    offset: int = 0
    data: bytes = b""


WRITE, FLUSH, MARK = "write", "flush", "mark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorder:
    """A running recorder: where its images are to be found, and its record."""

    place: Path
    record: Path

    def image(self, disk: str) -> Path:
        """The image of a disk, to stand a loop device on."""
        return self.place / disk

    def mark(self, text: str) -> None:
        """Put a mark into the record; it stands behind all that was written before."""
        descriptor = os.open(self.place / _MARKS, os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def events(self) -> list[Event]:
        """What happened so far."""
        with self.record.open("rb") as file:
            return list(_events(file))


@contextmanager
def recording(images: dict[str, Path], place: Path, record: Path) -> Iterator[Recorder]:
    """Serve ``images`` (by the names of their disks) below ``place``; what is written to them goes on record."""
    place.mkdir()
    fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,max_read={_LARGEST_WRITE}"
    call("mount", b"recorder", bytes(place), b"fuse", ctypes.c_ulong(0), options.encode())
    child = os.fork()
    if not child:
        try:
            _serve(fuse, images, record)
        finally:
            os._exit(0)
    os.close(fuse)
    try:
        yield Recorder(place=place, record=record)
    finally:
        with suppress(OSError):
            call("umount2", bytes(place), ctypes.c_int(2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def call(name: str, *arguments: object) -> None:
    """A system call of libc that gives 0 or fails with errno."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}", str(arguments[0]))


def _events(file: BinaryIO) -> Iterator[Event]:
    while size := file.read(4):
        yield msgspec.msgpack.decode(file.read(int.from_bytes(size, "big")), type=Event)


class _Server:
    def __init__(self, fuse: int, images: dict[str, Path], record: BinaryIO) -> None:
        self._fuse = fuse
        self._record = record
        self._names = dict(enumerate([_MARKS, *images], _ROOT + 1))
        self._files = {
            number: os.open(images[name], os.O_RDWR) for number, name in self._names.items() if name != _MARKS
        }

    def answer(self, unique: int, data: bytes = b"", error: int = 0) -> None:
        os.write(self._fuse, _ANSWER.pack(_ANSWER.size + len(data), -error, unique) + data)

    def note(self, event: Event) -> None:
        raw = msgspec.msgpack.encode(event)
        self._record.write(len(raw).to_bytes(4, "big") + raw)
        self._record.flush()

    def attributes(self, node: int) -> bytes:
        if node == _ROOT:
            size, mode = 0, stat.S_IFDIR | 0o700
        else:
            size, mode = self._size(node), stat.S_IFREG | 0o600
        return _ATTRIBUTES.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def _size(self, node: int) -> int:
        return os.fstat(self._files[node]).st_size if node in self._files else 0

    def handle(self, opcode: int, unique: int, node: int, body: bytes) -> None:
        match opcode:
            case _Call.READ | _Call.WRITE | _Call.FSYNC:
                self._handle_data(opcode, unique, node, body)
            case _Call.INIT:
                major, _, ahead, _ = struct.unpack_from("<IIII", body)
                self.answer(
                    unique, _INIT_ANSWER.pack(major, 31, ahead, 0, 16, 12, _LARGEST_WRITE, 1, 0, 0, 0)
                )
            case _Call.LOOKUP:
                self._lookup(unique, body)
            case _Call.GETATTR:
                self.answer(unique, struct.pack("<QII", _FOREVER, 0, 0) + self.attributes(node))
            case _Call.OPEN:
                self.answer(unique, struct.pack("<QII", node, _DIRECT, 0))
            case _Call.STATFS:
                self.answer(
                    unique, struct.pack("<QQQQQIIII24x", 1 << 20, 1 << 20, 1 << 20, 9, 9, 4096, 255, 4096, 0)
                )
            case _Call.RELEASE | _Call.FLUSH:
                self.answer(unique)
            case _ if opcode not in (_Call.FORGET, _Call.BATCH_FORGET):
                self.answer(unique, error=errno.ENOSYS)

    def _handle_data(self, opcode: int, unique: int, node: int, body: bytes) -> None:
        match opcode:
            case _Call.READ:
                _, offset, size, _ = _READING.unpack_from(body)
                self.answer(unique, os.pread(self._files[node], size, offset) if node in self._files else b"")
            case _Call.WRITE:
                self._write(unique, node, body)
            case _:
                self.note(Event(FLUSH, self._names[node]))
                self.answer(unique)

    def _lookup(self, unique: int, body: bytes) -> None:
        wanted = body.rstrip(b"\0").decode()
        for node, name in self._names.items():
            if name == wanted:
                entry = struct.pack("<QQQQII", node, 0, _FOREVER, _FOREVER, 0, 0)
                self.answer(unique, entry + self.attributes(node))
                return
        self.answer(unique, error=errno.ENOENT)

    def _write(self, unique: int, node: int, body: bytes) -> None:
        _, offset, size, *_ = _WRITING.unpack_from(body)
        data = body[_WRITING.size : _WRITING.size + size]
        if node in self._files:
            os.pwrite(self._files[node], data, offset)
            self.note(Event(WRITE, self._names[node], offset, data))
        else:
            self.note(Event(MARK, data.decode()))
        self.answer(unique, struct.pack("<II", size, 0))


def _serve(fuse: int, images: dict[str, Path], record: Path) -> None:
    with record.open("wb") as file:
        server = _Server(fuse, images, file)
        while True:
            try:
                request = os.read(fuse, _REQUEST)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                return  # unmounted
            _, opcode, unique, node, *_ = _HEADER.unpack_from(request)
            server.handle(opcode, unique, node, request[_HEADER.size :])
