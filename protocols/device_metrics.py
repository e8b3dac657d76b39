"""The ranks of :mod:`protocols.metrics`, from a distance tensor on the device it lies on.

One stable sort per block of queries; what leaves the device is the ranks of the matches. Same result as the
compiled loops, ties included: a stable sort orders by (distance, gallery index).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from protocols.base import IntArray

CELLS = 2**22
"""Distances that are handled at once: some 300 MB of sorted copies, indices and counts."""

Ranks = tuple[IntArray, IntArray, IntArray, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Block:
    """The gallery as a block of queries ranks it: nearest first, images they do not see last.

    Attributes
    ----------
    values : float64 tensor (b, g)
        Sorted distances; infinite for what a query does not see.
    codes : int64 tensor (b, g)
        Identity code of each ranked image.
    right : bool tensor (b, g)
        Whether it is a match.
    """

    values: Tensor
    codes: Tensor
    right: Tensor


def finite_rows(distance: Tensor) -> npt.NDArray[np.bool_]:
    """Say for each row whether all its distances are finite, without a copy of the matrix."""
    low, high = torch.aminmax(distance, dim=1)  # both are NaN where a row holds one
    finite: npt.NDArray[np.bool_] = (torch.isfinite(low) & torch.isfinite(high)).cpu().numpy()
    return finite


def rank_matches(
    distance: Tensor,
    query_code: IntArray,
    gallery_code: IntArray,
    skip: npt.NDArray[np.bool_],
    skip_group: IntArray,
    identities: int,
) -> Ranks:
    """Return per match its rank, also with ties lost, and per query the identities ahead and a tie flag.

    Arguments and result are those of the compiled :func:`protocols.ranking.rank_matches`.
    """
    device = distance.device
    query, codes, group = (torch.as_tensor(a, device=device) for a in (query_code, gallery_code, skip_group))
    hidden = torch.as_tensor(skip, device=device)
    parts = []
    size = max(1, CELLS // len(codes))
    for start in range(0, len(query), size):
        rows = slice(start, start + size)
        block = ranked(distance[rows], query[rows], codes, hidden[group[rows]])
        parts.append((*match_ranks(block), identities_ahead(block, identities), tied_queries(block)))
    hits, worst, ahead, tied = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return hits, worst, ahead, tied


def ranked(distance: Tensor, query_code: Tensor, codes: Tensor, hidden: Tensor) -> Block:
    """Rank the gallery for a block of queries."""
    # adding zero turns -0.0 into 0.0: a device may sort by bits
    seen = (distance.double() + 0.0).masked_fill_(hidden, torch.inf)
    values, order = torch.sort(seen, dim=1, stable=True)
    ranked_codes = codes[order]
    return Block(values, ranked_codes, (ranked_codes == query_code[:, None]) & values.isfinite())


def match_ranks(block: Block) -> tuple[Tensor, Tensor]:
    """Return the ranks of all matches, query by query, and what they are if every tie is lost."""
    matches_so_far = block.right.cumsum(dim=1)
    row, column = block.right.nonzero(as_tuple=True)
    up_to_ties = torch.searchsorted(block.values, block.values, right=True)[row, column]
    wrong = up_to_ties - matches_so_far[row, up_to_ties - 1]
    return column + 1, wrong + matches_so_far[row, column]


def identities_ahead(block: Block, identities: int) -> Tensor:
    """Count the distinct wrong identities before each query's first match (0 without a match)."""
    before = block.right.cumsum(dim=1) == 0
    marks = block.codes.new_zeros((len(before), identities + 1), dtype=torch.bool)
    marks.scatter_(1, block.codes.masked_fill(~before, identities), True)
    return marks[:, :identities].sum(dim=1) * block.right.any(dim=1)


def tied_queries(block: Block) -> Tensor:
    """Say for which queries a match and a wrong image are equally far."""
    equal = block.values[:, 1:] == block.values[:, :-1]
    return (equal & (block.right[:, 1:] != block.right[:, :-1])).any(dim=1)


def nearest_rows(
    distance: Tensor, skip: npt.NDArray[np.bool_], skip_group: IntArray, count: int
) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """Return rows and distances (q, count) of the nearest images by (distance, index); -1 and infinity beyond."""
    hidden, group = (torch.as_tensor(a, device=distance.device) for a in (skip, skip_group))
    rows, values = [], []
    size = max(1, CELLS // distance.shape[1])
    for start in range(0, len(distance), size):
        part = slice(start, start + size)
        seen = (distance[part].double() + 0.0).masked_fill_(hidden[group[part]], torch.inf)
        near, order = torch.sort(seen, dim=1, stable=True)
        near, order = near[:, :count], order[:, :count]
        rows.append(order.masked_fill(~near.isfinite(), -1))
        values.append(near)
    return torch.cat(rows).cpu().numpy(), torch.cat(values).cpu().numpy()
