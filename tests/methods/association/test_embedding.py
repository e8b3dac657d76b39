"""Memory embeddings: one softmax per camera block, and the public code's cuts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.association.embedding import memory_embedding, misread_block_sizes
from tests.methods.association.cases import grid_rows, tensor
from tests.reference import association as reference


@given(grid_rows(1), st.lists(grid_rows(1, 4), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_equals_the_loops_and_blocks_sum_to_one(features: np.ndarray, banks: list[np.ndarray]) -> None:
    found = memory_embedding(tensor(features), [tensor(bank) for bank in banks])
    np.testing.assert_allclose(found.numpy(), reference.embedding(features, banks, 20), atol=1e-6)
    for block in found.split([len(bank) for bank in banks], dim=1):
        np.testing.assert_allclose(block.sum(1).numpy(), 1, atol=1e-6)


def test_no_bank_and_empty_banks() -> None:
    features = torch.eye(3)
    assert memory_embedding(features, []).shape == (3, 0)
    assert memory_embedding(features, [torch.empty(0, 3), torch.eye(3)]).shape == (3, 3)


@given(st.lists(st.integers(0, 9), max_size=5))
@settings(max_examples=50, deadline=None)
def test_misread_blocks(sizes: list[int]) -> None:
    rows = list(range(sum(sizes)))
    limits = np.cumsum(np.cumsum(sizes)).tolist()
    starts = [0, *limits[:-1]] if sizes else []
    ends = [*limits[:-1], len(rows)] if sizes else []
    expected = [rows[a:b] for a, b in zip(starts, ends, strict=True)]
    assert misread_block_sizes(sizes) == [len(block) for block in expected]


def test_public_cuts_of_four_cameras() -> None:
    sizes = [10, 12, 9, 11]
    assert misread_block_sizes(sizes) == [10, 22, 10, 0]
    rows = torch.eye(42)
    embedding = memory_embedding(rows, rows.split(misread_block_sizes(sizes)))
    assert embedding.shape == (42, 42)
    assert float(embedding[0, 10:32].sum()) == pytest.approx(1)
