"""The search: exact whatever the first pass; and the proof that says so."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from methods.clustering import Neighbours, nearest_neighbours, neighbours
from methods.clustering.first_pass import ErrorBound, FirstPass, bfloat16_pass, float32_pass
from methods.clustering.kernels import numba_kernels, numba_search, torch_search
from methods.clustering.kernels.interface import SearchResult
from methods.errors import MethodError
from tests.methods.clustering import cases
from tests.reference import clustering as slow

QUICK = settings(max_examples=25, deadline=None, derandomize=True)
PASSES = {"float32": float32_pass, "bfloat16": bfloat16_pass}


def nobody(n: int) -> Tensor:
    return torch.full((n,), -1, dtype=torch.int32)


def blockwise(features: Tensor, k: int, first_pass: FirstPass) -> tuple[Neighbours, Tensor]:
    """The compiled pass alone: lists, and the rows whose proof failed."""
    return numba_search.search_blocks(features, k, nobody(len(features)), first_pass)


def passes_of(name: str) -> Callable[..., Iterator[SearchResult]]:
    """The searches of the compiled back end with one first pass."""

    def searches(features: Tensor, k: int, group: Tensor, *, fastest: bool) -> Iterator[SearchResult]:
        yield numba_search.search_blocks(features, k, group, PASSES[name](features))

    return searches


def by_product(features: Tensor, k: int) -> Neighbours:
    """Float64 products of everything with everything, rounded to float32, in order (similarity, index)."""
    similarity = (features.double() @ features.double().T).float().numpy()
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return Neighbours(
        torch.from_numpy(order), torch.from_numpy(np.take_along_axis(similarity, order, axis=1))
    )


@QUICK
@given(cases.features(), st.integers(1, 12))
def test_lists_of_the_definition_with_ties_and_duplicates(features: Tensor, k: int) -> None:
    expected = slow.nearest(slow.similarities(features.numpy()), k)
    assert nearest_neighbours(features, k).index.tolist() == expected
    assert nearest_neighbours(features, k, backend="float32").index.tolist() == expected


@pytest.mark.parametrize("name", PASSES)
def test_either_first_pass_finds_the_neighbours_of_many_samples(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several blocks, the last of them ragged; both sides of every pair of blocks are used."""
    monkeypatch.setattr(numba_search, "BLOCK", 256)
    features = cases.blobs(1300, 32, 60, 0.4, 0)
    expected = by_product(features, 20)
    monkeypatch.setattr(numba_kernels, "searches", passes_of(name))
    found = nearest_neighbours(features, 20)
    assert torch.equal(found.index, expected.index)
    assert torch.equal(found.similarity, expected.similarity)


@pytest.mark.parametrize("name", PASSES)
def test_the_bound_covers_the_error_of_the_first_pass(name: str) -> None:
    features = cases.blobs(300, 256, 20, 0.3, 1)
    first_pass = PASSES[name](features)
    near = (first_pass.rows @ first_pass.rows.T).double()
    exact = features.double() @ features.double().T
    slack, relative = first_pass.bound
    assert ((near - exact).abs() <= slack + relative * near.abs()).all()
    assert slack < 0.01


def test_rows_that_are_proven_are_right_and_the_others_are_said() -> None:
    """Near copies leave more candidates than a list holds: the proof gives these rows up, no others."""
    crowd = cases.unit(np.ones((400, 16)) + 1e-4 * np.random.default_rng(0).normal(size=(400, 16)))
    features = torch.cat([cases.blobs(300, 16, 30, 0.5, 2), crowd])
    found, failed = blockwise(features, 10, bfloat16_pass(features))
    assert len(failed) > 0
    proven = np.setdiff1d(np.arange(700), failed.numpy())
    assert len(proven) > 200
    expected = by_product(features, 10)
    assert torch.equal(found.index[proven], expected.index[proven])
    assert torch.equal(nearest_neighbours(features, 10).index, expected.index)


def test_few_failures_are_repaired_row_by_row() -> None:
    features = cases.blobs(500, 16, 25, 0.4, 3)
    expected = by_product(features, 8)
    found = Neighbours.empty(500, 8, features.device)
    torch_search.repair(features, nobody(500), torch.arange(0, 500, 7), found)
    assert torch.equal(found.index[::7], expected.index[::7])
    assert torch.equal(found.similarity[::7], expected.similarity[::7])


def test_a_bound_that_is_too_small_is_noticed() -> None:
    """A first pass that is farther off than it claims fails the rows that it misled."""
    features = cases.blobs(300, 64, 20, 0.3, 4)
    honest = bfloat16_pass(features)
    boast = FirstPass(honest.rows, ErrorBound(1e-9, 1e-9))
    assert len(blockwise(features, 10, boast)[1]) > 250


def test_all_samples_equal() -> None:
    features = cases.unit(np.ones((700, 8)))
    assert (nearest_neighbours(features, 30).index == torch.arange(30)).all()


def test_as_many_neighbours_as_samples() -> None:
    features = cases.blobs(40, 8, 4, 0.4, 5)
    assert torch.equal(nearest_neighbours(features, 40).index, by_product(features, 40).index)


def test_the_number_of_threads_and_block_size_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features = cases.blobs(900, 24, 40, 0.4, 6)
    whole = nearest_neighbours(features, 15)
    monkeypatch.setattr(numba_search, "BLOCK", 200)
    parts = nearest_neighbours(features, 15)
    assert torch.equal(whole.index, parts.index)
    assert torch.equal(whole.similarity, parts.similarity)


@QUICK
@given(cases.features(), st.integers(1, 8), st.integers(1, 4), st.integers(0, 9))
def test_neighbours_of_own_and_of_other_groups(features: Tensor, k: int, number: int, seed: int) -> None:
    group = cases.groups(len(features), number, seed)
    similarity = slow.similarities(features.numpy())
    everybody = range(len(features))
    for search, same in (
        (neighbours.same_group_neighbours, True),
        (neighbours.other_group_neighbours, False),
    ):
        found = search(features, k, group, numba_kernels).index.tolist()
        for i in everybody:
            among = [j for j in everybody if (group[i] == group[j]) == same]
            expected = slow.ranked(similarity, i, among, k)
            assert [j for j in found[i] if j >= 0] == expected
            assert found[i][: len(expected)] == expected


@pytest.mark.parametrize("name", PASSES)
def test_search_in_tensor_operations(name: str) -> None:
    for features in (cases.blobs(600, 32, 30, 0.4, 7), cases.lattice(300, 1)):
        expected = by_product(features, 12)
        group = nobody(len(features))
        found, failed = torch_search.search_blocks(features, 12, group, PASSES[name](features))
        torch_search.repair(features, group, failed, found)
        assert torch.equal(found.index, expected.index)
        assert torch.equal(found.similarity, expected.similarity)


def test_faiss_finds_the_same_where_nothing_ties() -> None:
    pytest.importorskip("faiss")
    features = cases.blobs(500, 32, 25, 0.5, 8)
    ours, theirs = nearest_neighbours(features, 10), nearest_neighbours(features, 10, backend="faiss")
    assert torch.equal(ours.index, theirs.index)
    torch.testing.assert_close(ours.similarity, theirs.similarity, rtol=0, atol=1e-5)


def test_faiss_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MethodError, match="faiss-cpu"):
        nearest_neighbours(cases.blobs(20, 8, 3, 0.3, 0), 5, backend="faiss")
