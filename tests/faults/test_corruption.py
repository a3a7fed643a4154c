"""Nothing that was damaged on a medium is accepted, and every refusal says which rule was broken.

Environment: FAULTS_CORRUPTIONS (ways for bundle and return each; 0 for all), FAULTS_SEED, FAULTS_JOBS.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from offline_processor import receiving
from tests.faults.corruption import (
    BUNDLE,
    RETURN,
    Reader,
    Tally,
    bundle_world,
    content_of,
    judge_all,
    offer,
    return_world,
)
from tests.faults.sweep import at_most, jobs, scratch, seed
from tests.faults.world import World, make_light
from transfer.sync import handover, returned
from transfer.wire.manifest import SIGNATURE_NAME

pytestmark = pytest.mark.faults

_CONTROLS = 400
_READERS = {"bundle": BUNDLE, "return": RETURN}
_MAKERS = {"bundle": bundle_world, "return": return_world}


@pytest.fixture(scope="module")
def worlds() -> Iterator[dict[str, World]]:
    """A world with a bundle, and one with a return, that nobody has read yet."""
    with (
        TemporaryDirectory(prefix="faults-", dir=scratch()) as place,
        pytest.MonkeyPatch.context() as patch,
    ):
        make_light(patch)
        yield {kind: make(Path(place) / kind) for kind, make in _MAKERS.items()}


@pytest.mark.parametrize("kind", _READERS)
def test_nothing_damaged_is_accepted(worlds: dict[str, World], say: Callable[[str], None], kind: str) -> None:
    every = Tally()
    play = partial(_share, worlds[kind], kind, at_most("CORRUPTIONS", 0))
    with ProcessPoolExecutor(jobs(), mp_context=multiprocessing.get_context("fork")) as pool:
        for tally in pool.map(play, [(part, jobs()) for part in range(jobs())]):
            every.add(tally)
    say(every.line(f"{kind} corrupted"))
    assert every.tried > 100
    assert every.accepted == []
    assert every.unsaid == []


@pytest.mark.parametrize("kind", _READERS)
def test_untouched_it_is_accepted(worlds: dict[str, World], tmp_path: Path, kind: str) -> None:
    reader, untouched = _READERS[kind], worlds[kind]
    world = untouched.copy_to(tmp_path / kind)
    ended = offer(world, reader, untouched, content_of(untouched.medium / reader.unit))
    assert ended.code in (0, 3), ended.said
    assert reader.taken(world) > reader.taken(untouched)


@pytest.mark.parametrize("kind", _READERS)
def test_without_its_signature_it_is_not_there_yet(
    worlds: dict[str, World], tmp_path: Path, kind: str
) -> None:
    reader, untouched = _READERS[kind], worlds[kind]
    world = untouched.copy_to(tmp_path / kind)
    content = dict(content_of(untouched.medium / reader.unit))
    del content[SIGNATURE_NAME]
    ended = offer(world, reader, untouched, content)
    assert ended.code == 5, ended.said
    assert reader.taken(world) == reader.taken(untouched)


def _no_signature_check_offline(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(receiving, "signature_matches", lambda *given: True)


def _no_check_of_envelopes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(receiving, "_check_envelopes", lambda path, manifest: None)


def _no_signature_check_online(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handover, "signature_matches", lambda *given: True)


def _no_digest_of_records(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(returned, "same_digest", lambda left, right: True)


_PLANTED = {
    "bundle's signature not checked": ("bundle", _no_signature_check_offline),
    "bundle's envelopes not checked": ("bundle", _no_check_of_envelopes),
    "return's signature not checked": ("return", _no_signature_check_online),
    "return's records not compared with their digest": ("return", _no_digest_of_records),
}


@pytest.mark.parametrize("name", _PLANTED)
def test_planted_bug_lets_something_damaged_in(
    worlds: dict[str, World],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    say: Callable[[str], None],
    name: str,
) -> None:
    kind, plant = _PLANTED[name]
    plant(monkeypatch)
    reader: Reader = _READERS[kind]
    tally = judge_all(worlds[kind], tmp_path / "w", reader, seed=seed(), most=_CONTROLS)
    assert tally.accepted
    say(f"planted bug caught, {len(tally.accepted)} of {tally.tried} accepted: {name}")


def _share(untouched: World, kind: str, most: int, share: tuple[int, int]) -> Tally:
    place = untouched.place.with_name(f"{kind}-{share[0]}")
    return judge_all(untouched, place, _READERS[kind], seed=seed(), share=share, most=most)
