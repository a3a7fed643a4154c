"""The golden vectors: our code agrees with each, and the maker still makes them byte for byte."""

from __future__ import annotations

import pytest

from tests.vectors import form, sealed
from tests.vectors.form import OK, Vector
from tests.vectors.judge import judge
from tests.vectors.make import FILES, made

VECTORS = [vector for name in form.names() for vector in form.read(name)]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_our_code_agrees_with_the_vector(vector: Vector) -> None:
    verdict, output = judge(vector.kind, vector.inputs)
    assert (verdict, output) == (vector.expect, vector.output)


def test_the_maker_makes_the_same_vectors_again() -> None:
    for name, vectors in made().items():
        assert form.text_of(vectors) == (form.HERE / name).read_text("ascii"), f"{name} is out of date"
    assert set(form.names()) == {*FILES, sealed.FILE}


def test_newly_sealed_vectors_would_be_judged_the_same() -> None:
    kept = {vector.name: vector for vector in form.read(sealed.FILE)}
    for vector in sealed.sealed_orders():
        verdict, _ = judge(vector.kind, vector.inputs)
        assert verdict == vector.expect == kept.pop(vector.name).expect
    assert not kept


def test_every_name_is_one_vector_s_and_every_kind_has_good_ones_and_faults() -> None:
    names = [vector.name for vector in VECTORS]
    assert len(names) == len(set(names))
    faultless = {"digest", "fingerprint", "basket", "request"}
    for kind in {vector.kind for vector in VECTORS}:
        expected = {vector.expect == OK for vector in VECTORS if vector.kind == kind}
        assert expected == ({True} if kind in faultless else {True, False}), kind
