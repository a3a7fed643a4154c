"""`python -m tests.tools` brings the programs that tests need, as far as this machine lets it.

Why here: `make test` does its own set-up; whoever may not install packages still gets all other tests.
Must not: fail a set-up because a tool cannot be had: the tests that need it are skipped and say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.tools.known import ROOT, TABLE, find, modules_are_current, search_path


def main() -> None:
    """Fetch what is missing, then name what still is."""
    _debian_packages()
    _npm_packages()
    for tool in TABLE.values():
        if tool.find() is None:
            _say(f"not here: {tool.name}; tests that need it are skipped. To get it: {tool.get_it}")


def _debian_packages() -> None:
    missing = sorted({tool.debian for tool in TABLE.values() if tool.debian and tool.find() is None})
    apt = shutil.which("apt-get")
    if not missing or apt is None or os.geteuid() != 0:
        return
    _say(f"installing Debian packages: {' '.join(missing)}")
    install = [apt, "install", "--yes", "--no-install-recommends", "-qq", *missing]
    # A new machine has no package lists yet, and an old one's may be stale.
    if not _done(install) and _done([apt, "update", "-qq"]) and not _done(install):
        _say("apt-get could not install them")


def _npm_packages() -> None:
    npm = find("npm")
    locks = sorted(path for path in (ROOT / "tests").glob("*/package-lock.json"))
    for folder in (lock.parent for lock in locks):
        if npm is None or modules_are_current(folder):
            continue
        _say(f"installing npm packages of {folder.relative_to(ROOT)}")
        command = [str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        if _done(command, folder):
            # npm keeps the time of an unchanged record, and this time is how we see that it is current.
            os.utime(folder / "node_modules" / ".package-lock.json")
        else:
            _say(f"npm ci failed in {folder.relative_to(ROOT)}")


def _done(command: list[str], folder: Path = ROOT) -> bool:
    environment = os.environ | {"PATH": search_path(), "DEBIAN_FRONTEND": "noninteractive"}
    # Its output is only of interest when it fails.
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        sys.stderr.write(result.stdout)
    return result.returncode == 0


def _say(text: str) -> None:
    sys.stdout.write(f"test tools: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
