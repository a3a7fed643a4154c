"""A sweep: many tasks, played by several fork servers at once, and the figures that come of them.

Why here: tests say what to try; how it is spread over the machine is one matter.
Must not: leave a process or a directory behind.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

import msgspec

from tests.faults.worker import Task, Verdict
from tests.tools.known import ROOT

MEMORY = Path("/dev/shm")


def jobs() -> int:
    """How many fork servers play at once."""
    return int(os.environ.get("FAULTS_JOBS", "") or os.cpu_count() or 1)


def seed() -> int:
    """The seed of every sample; another one tries others."""
    return int(os.environ.get("FAULTS_SEED", "") or 4)


def at_most(name: str, usual: int) -> int:
    """How many states of a kind are tried: FAULTS_<NAME> in the environment, else the usual number."""
    return int(os.environ.get(f"FAULTS_{name}", "") or usual)


def scratch() -> Path | None:
    """Where worlds are made: in memory where that is possible, else where temporary files usually go."""
    return MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else None


@dataclass(slots=True, kw_only=True)
class Figures:
    """What a sweep counted."""

    title: str
    states: int = 0
    beyond: int = 0
    found: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """Count one state."""
        if not verdict.reached:
            self.beyond += 1
            return
        self.states += 1
        for kind in verdict.findings.__struct_fields__:
            if getattr(verdict.findings, kind):
                self.found[kind] += 1
        if verdict.findings.any:
            task = msgspec.to_builtins(verdict.task)
            self.examples.append(f"{task}: {'; '.join(verdict.findings.any)[:3000]}")

    def line(self) -> str:
        """The figures in one line."""
        return (
            f"{self.title}: states tried {self.states}; orders lost {self.found['lost']}, charged twice"
            f" {self.found['twice']}, charged and unrecorded {self.found['unrecorded']}, statuses that disagree"
            f" {self.found['disagree']}, other faults {self.found['broken']}"
        )


class Fleet:
    """Fork servers on top of the shim."""

    def __init__(self, library: Path, place: Path, count: int) -> None:
        environment = os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)}
        self._workers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.faults.worker", str(place)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for _ in range(count)
        ]

    def play(self, tasks: Iterable[Task]) -> Iterator[Verdict]:
        """The verdicts, as they come; all of them must be taken before anything else is played."""
        waiting, lock, done = iter(tasks), threading.Lock(), SimpleQueue[Verdict | BaseException | None]()

        def serve(worker: subprocess.Popen[bytes]) -> None:
            try:
                while True:
                    with lock:
                        task = next(waiting, None)
                    if task is None:
                        return
                    done.put(ask(worker, task))
            except BaseException as error:  # noqa: BLE001  raised again where the verdicts are read
                done.put(error)
            finally:
                done.put(None)

        for worker in self._workers:
            threading.Thread(target=serve, args=(worker,), daemon=True).start()
        left = len(self._workers)
        while left:
            verdict = done.get()
            if verdict is None:
                left -= 1
            elif isinstance(verdict, BaseException):
                raise verdict
            else:
                yield verdict

    def traces(self) -> dict[str, list[str]]:
        """The counted calls of every step, as an undisturbed play makes them."""
        return ask(self._workers[0], Task()).traces

    def close(self) -> None:
        for worker in self._workers:
            if worker.stdin is not None:
                worker.stdin.close()
        for worker in self._workers:
            try:
                worker.wait(timeout=30)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def ask(worker: subprocess.Popen[bytes], task: Task) -> Verdict:
    """One task to one worker, and its verdict."""
    if worker.stdin is None or worker.stdout is None:
        raise RuntimeError("a worker speaks through pipes")
    worker.stdin.write(msgspec.json.encode(task) + b"\n")
    worker.stdin.flush()
    answer = worker.stdout.readline()
    if not answer:
        raise RuntimeError(f"a fork server died over {task}")
    return msgspec.json.decode(answer, type=Verdict)


@contextmanager
def fleet(library: Path, *, count: int | None = None) -> Iterator[Fleet]:
    """A fleet that ends with the context, and a directory in memory for its worlds."""
    with tempfile.TemporaryDirectory(prefix="faults-", dir=scratch()) as place:
        made = Fleet(library, Path(place), count or jobs())
        try:
            yield made
        finally:
            made.close()
