from __future__ import annotations

import hashlib

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.runs.seeds import numpy_generator, seed_for

arguments = st.tuples(
    st.integers(0, 2**40), st.text(max_size=5), st.lists(st.integers(0, 99) | st.text(max_size=3), max_size=3)
)


def test_seed_is_a_documented_hash_and_does_not_change() -> None:
    digest = hashlib.sha256(b'[3, "sampler", 1, "visible"]').digest()
    assert seed_for(3, "sampler", 1, "visible") == int.from_bytes(digest[:8], "big") // 2


@settings(max_examples=50, deadline=None)
@given(arguments, arguments)
def test_equal_only_for_equal_arguments(a: tuple, b: tuple) -> None:
    one, other = seed_for(a[0], a[1], *a[2]), seed_for(b[0], b[1], *b[2])
    assert 0 <= one < 2**63
    assert (one == other) == (a == b)


def test_a_number_and_its_text_are_two_indices() -> None:
    assert seed_for(0, "a", 1) != seed_for(0, "a", "1")


def test_generators_repeat_and_leave_global_state_alone() -> None:
    state = torch.get_rng_state()
    assert numpy_generator(1, "x").integers(2**60) == numpy_generator(1, "x").integers(2**60)
    assert numpy_generator(1, "x").integers(2**60) != numpy_generator(1, "y").integers(2**60)
    assert torch.equal(state, torch.get_rng_state())
