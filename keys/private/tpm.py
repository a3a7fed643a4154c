"""The four commands to a TPM 2.0 that a ring secret needs, through Debian's tpm2-tools.

Why here: what goes to another program must not become a Python object, an argument or a variable on the way.
Must not: know what the secret is for, or wait for ever on a chip that does not answer.

Content goes through pipes that are filled before the program starts, and comes back straight into locked
memory. The authorisation value has to be a file that can be rewound: one without a name, in locked memory.
The program's own memory is not locked: it lives for milliseconds, and swap is encrypted or refused.
Which TPM is asked: tpm2-tools' own choice (/dev/tpmrm0), or the variable TPM2TOOLS_TCTI.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import select
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Final, NoReturn

from keys.errors import KeysError
from keys.private import sodium

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from keys.private.locked import LockedBuffer

TIMEOUT: float = 30.0
"""Seconds for one command. A chip that tests itself first, or limits its writes, takes a few."""
_OUTPUT_LIMIT: Final = 64 * 1024
# Known to the index's own authorisation alone; no lockout, since 256 bits are not guessed; not in the owner's power
# to read. A new value takes the place of the old one in one command.
_ATTRIBUTES: Final = "authread|authwrite|no_da"
_CODE: Final = re.compile(r"\(0x([0-9a-fA-F]{1,8})\)")
_HEX: Final = b"0123456789abcdef"
_TAKEN: Final = 0x14C

_OLD_MACHINE: Final = (
    "the disk was moved to another machine, or its TPM was cleared: batch and hold keys are gone for good; "
    "put the disk back into its machine, or recover the keystore with the custodians' shares"
)
_WRONG_AUTH: Final = (
    "RING-TPM-AUTH",
    "this machine's TPM has the index, but it is not this keystore's",
    "put the disk back into the machine whose TPM holds its ring secret, or recover with the custodians' shares",
)
_OWNER: Final = (
    "RING-TPM-OWNER",
    "the TPM's owner hierarchy has an authorisation of its own, so no index can be made or removed",
    "take it off for the ceremony (tpm2_changeauth -c o -p OLD), then set it again",
)
_FULL: Final = (
    "RING-TPM-FULL",
    "the TPM has no room for another index",
    "see what is there (tpm2_getcap handles-nv-index), and undefine what no keystore uses any more",
)
_ABSENT: Final = (
    "RING-TPM-NONE",
    "no TPM 2.0 can be reached",
    "switch it on in the firmware, and let this user use /dev/tpmrm0 (group tss)",
)
_MISSING: Final = (
    "RING-TPM-MISSING",
    "this machine's TPM does not have this keystore's ring secret",
    _OLD_MACHINE,
)
_REFUSALS: Final = {
    0x18B: _MISSING,  # no such handle
    0x14A: _MISSING,  # an index that was never written: its keystore was not finished
    0x98E: _WRONG_AUTH,
    0x9A2: _WRONG_AUTH,
    0x14B: _FULL,
}


class IndexTakenError(KeysError):
    """The handle has become another program's since it was seen to be free."""

    def __init__(self, handle: int) -> None:
        super().__init__("RING-TPM-TAKEN", f"the TPM index {handle:#010x} is taken", "repeat the command")


def indices() -> set[int]:
    """The handles of every NV index that the TPM has."""
    listed = _run("tpm2_getcap", ["handles-nv-index"])
    return {int(word, 16) for word in listed.split() if word.startswith("0x")}


def define(handle: int, size: int, auth: LockedBuffer) -> None:
    """Make an NV index of ``size`` bytes that only ``auth`` (32 bytes) reads and writes. ``IndexTakenError``."""
    with _auth_file(auth) as (argument, descriptor):
        arguments = [hex(handle), "-C", "o", "-s", str(size), "-a", _ATTRIBUTES, "-p", argument]
        _run("tpm2_nvdefine", arguments, keep=[descriptor], handle=handle, as_owner=True)


def write(handle: int, auth: LockedBuffer, content: LockedBuffer) -> None:
    """Put ``content`` in place of what the index holds: one command to the chip."""
    with _auth_file(auth) as (argument, descriptor), _filled_pipe(content.view) as source:
        arguments = [hex(handle), "-C", hex(handle), "-i", "-", "-P", argument]
        _run("tpm2_nvwrite", arguments, keep=[descriptor], handle=handle, stdin=source)


def read(handle: int, auth: LockedBuffer, into: LockedBuffer) -> None:
    """Fill ``into`` with what the index holds, which must have just its size."""
    with _auth_file(auth) as (argument, descriptor):
        arguments = [hex(handle), "-C", hex(handle), "-s", str(into.size), "-P", argument]
        _run("tpm2_nvread", arguments, keep=[descriptor], handle=handle, into=into.view)


def undefine(handle: int) -> None:
    """Remove the index and what it holds, with the owner's (empty) authorisation."""
    _run("tpm2_nvundefine", [hex(handle), "-C", "o"], handle=handle, as_owner=True)


def _run(
    tool: str,
    arguments: Sequence[str],
    *,
    keep: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
    into: memoryview | None = None,
    handle: int = 0,
    as_owner: bool = False,
) -> str:
    """Run one program to its end; what it prints goes ``into`` locked memory, or is given back as text."""
    program, env = shutil.which(tool), shutil.which("env")
    if program is None or env is None:
        remedy = "install it: apt-get install tpm2-tools"
        raise KeysError("RING-TPM-TOOLS", f"the program {tool} is not on this machine", remedy)
    out_read, out_write = os.pipe()
    error_read, error_write = os.pipe()
    try:
        # TSS2_LOG could make the library print what it sends to the chip. Python starts programs with vfork: the
        # child has none of the locked pages (MADV_DONTFORK) and of our descriptors only those named here.
        process = subprocess.Popen(  # noqa: S603
            [env, "TSS2_LOG=all+NONE", program, *arguments],
            stdin=stdin,
            stdout=out_write,
            stderr=error_write,
            pass_fds=keep,
        )
        os.close(out_write)
        os.close(error_write)
        out_write = error_write = -1
        try:
            told, failed, size = _gather(out_read, error_read, into, time.monotonic() + TIMEOUT)
            code = process.wait(TIMEOUT)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise KeysError(
                "RING-TPM-SILENT",
                f"the TPM did not answer within {TIMEOUT:.0f} seconds ({tool})",
                "nothing is lost: repeat the command; if it stays so, restart the machine",
            ) from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    finally:
        for descriptor in (out_read, error_read, out_write, error_write):
            if descriptor >= 0:
                os.close(descriptor)
    if code != 0:
        _refuse(tool, code, failed, handle, as_owner=as_owner)
    if into is not None and size != into.nbytes:
        message = f"the TPM index {handle:#010x} gave {size} bytes instead of {into.nbytes}"
        raise KeysError("RING-TPM-FAILED", message, _OLD_MACHINE)
    return told


def _gather(out: int, error: int, into: memoryview | None, deadline: float) -> tuple[str, str, int]:
    """What comes from both pipes until their ends: text of each, and how many bytes went (or would go) ``into``."""
    told, failed, size = bytearray(), bytearray(), 0
    poll = select.poll()
    poll.register(out, select.POLLIN)
    poll.register(error, select.POLLIN)
    still = {out, error}
    while still:
        left = deadline - time.monotonic()
        ready = poll.poll(max(0, left) * 1000)
        if not ready:
            raise TimeoutError
        for descriptor, _ in ready:
            if descriptor == out and into is not None and size < into.nbytes:
                got = os.readv(out, [into[size:]])
                size += got
            else:
                more = os.read(descriptor, 4096)
                got = len(more)
                place = told if descriptor == out else failed
                place += more[: _OUTPUT_LIMIT - len(place)]
                size += got if descriptor == out else 0
            if got == 0:
                poll.unregister(descriptor)
                still.discard(descriptor)
    return told.decode("ascii", "replace"), failed.decode("ascii", "replace"), size


def _refuse(tool: str, code: int, failed: str, handle: int, *, as_owner: bool) -> NoReturn:
    found = [int(number, 16) for number in _CODE.findall(failed)]
    if "Could not load tcti" in failed:
        raise KeysError(*_ABSENT)
    for number in found:
        if number == _TAKEN:
            raise IndexTakenError(handle)
        refusal = _REFUSALS.get(number)
        if refusal is not None:
            raise KeysError(*(_OWNER if refusal is _WRONG_AUTH and as_owner else refusal))
    shown = ", ".join(f"TPM answer {number:#x}" for number in found) or f"exit code {code}"
    raise KeysError(
        "RING-TPM-FAILED",
        f"{tool} failed: {shown}",
        "nothing is lost: repeat the command; `tpm2_rc_decode CODE` says what the TPM means",
    )


@contextlib.contextmanager
def _filled_pipe(content: memoryview) -> Iterator[int]:
    """The reading end of a pipe that holds ``content`` (less than a page) already."""
    source, end = os.pipe()
    try:
        try:
            os.write(end, content)
        finally:
            os.close(end)
        yield source
    finally:
        os.close(source)


@contextlib.contextmanager
def _auth_file(auth: LockedBuffer) -> Iterator[tuple[str, int]]:
    """tpm2-tools' name for an authorisation value, and the descriptor of the file without a name that holds it."""
    prefix = b"hex:"
    size = len(prefix) + 2 * auth.size
    descriptor = os.memfd_create("auth", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        with mmap.mmap(descriptor, size) as shared, memoryview(shared) as text:
            address = sodium.address_of(sodium.from_buffer(shared))
            if sodium.mlock(address, size) != 0:
                raise KeysError("MEMORY-LOCK", "the system refused to lock memory for a TPM's authorisation")
            try:
                text[: len(prefix)] = prefix
                for place, byte in enumerate(auth.view, len(prefix) // 2):
                    text[2 * place], text[2 * place + 1] = _HEX[byte >> 4], _HEX[byte & 15]
                yield f"file:/proc/self/fd/{descriptor}", descriptor
            finally:
                sodium.munlock(address, size)  # wipes it too
    finally:
        os.close(descriptor)
