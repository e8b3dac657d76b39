"""Matching of visible and infrared clusters: by assignment (PGM, CVPR 2023), by transport (RPNR, ACM MM 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from methods.association.transport import transport_plan
from methods.errors import MethodError


@dataclass(frozen=True)
class Matching:
    """Partners of the clusters of both modalities; -1 only where the other side is empty.

    Attributes
    ----------
    visible_to_infrared : int64 tensor (K_v,)
    infrared_to_visible : int64 tensor (K_r,)
    """

    visible_to_infrared: Tensor
    infrared_to_visible: Tensor

    @property
    def one_to_one(self) -> Tensor:
        """Boolean (K_v,): the visible clusters whose partner points back at them."""
        if not len(self.infrared_to_visible):
            return torch.zeros_like(self.visible_to_infrared, dtype=torch.bool)
        visible = torch.arange(len(self.visible_to_infrared), device=self.visible_to_infrared.device)
        return self.infrared_to_visible[self.visible_to_infrared] == visible


def match_clusters(visible_rows: Tensor, infrared_rows: Tensor) -> Matching:
    """Match all clusters of the larger side to the smaller side, in rounds.

    The first round is the one-to-one assignment of least total cost exp(-cosine), and gives both maps. The
    clusters left over on the larger side are assigned to all clusters of the smaller side again, round after
    round until nobody is left, and only get their own map entry.

    Parameters
    ----------
    visible_rows : float tensor (K_v, d), unit rows
    infrared_rows : float tensor (K_r, d), unit rows

    Returns
    -------
    Matching
        On the device of `visible_rows`. Equal costs are resolved by SciPy's solver.

    Raises
    ------
    MethodError
        If a row is not finite.
    """
    cost = matching_cost(visible_rows, infrared_rows).cpu().numpy()
    flipped = cost.shape[0] < cost.shape[1]
    large, small = _match_larger_side(cost.T if flipped else cost)
    to_infrared, to_visible = (small, large) if flipped else (large, small)
    device = visible_rows.device
    return Matching(torch.from_numpy(to_infrared).to(device), torch.from_numpy(to_visible).to(device))


def match_by_transport(
    visible_rows: Tensor, infrared_rows: Tensor, regularisation: float = 5.0, tolerance: float = 1e-5
) -> Matching:
    """Give every cluster the one of the other side that an entropic transport plan sends most of its mass to.

    Many may share a partner, and the two maps need not agree. The lowest number wins a tie.

    Parameters
    ----------
    visible_rows : float tensor (K_v, d), unit rows
    infrared_rows : float tensor (K_r, d), unit rows
    regularisation, tolerance : float
        As in :func:`~methods.association.transport.transport_plan`; costs are exp(-cosine).

    Raises
    ------
    MethodError
        If a row is not finite.
    """
    n_v, n_r = len(visible_rows), len(infrared_rows)
    cost = matching_cost(visible_rows, infrared_rows)
    if not n_v or not n_r:
        nobody = torch.full((n_v + n_r,), -1, device=cost.device)
        return Matching(nobody[:n_v], nobody[n_v:])
    mass = transport_plan(cost, regularisation, tolerance).mass
    forth, back = mass.argmax(1), mass.argmax(0)
    # one cluster sends equally much to all but for rounding
    return Matching(forth if n_v > 1 else forth * 0, back if n_r > 1 else back * 0)


def matching_cost(visible_rows: Tensor, infrared_rows: Tensor) -> Tensor:
    """Return exp(-cosine) of clusters (K_v, K_r) in float64; errors as :func:`match_clusters`."""
    cost = torch.exp(-(visible_rows.double() @ infrared_rows.double().T))
    if not bool(cost.isfinite().all()):
        raise MethodError("cluster rows to match are not finite; the features hold NaN or infinity")
    return cost


def _match_larger_side(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the maps large -> small and small -> large for `cost` (large, small)."""
    from scipy.optimize import linear_sum_assignment  # a look at a method need not wait for it

    to_small, to_large = (np.full(n, -1, dtype=np.int64) for n in cost.shape)
    if not len(to_large):
        return to_small, to_large
    rows, columns = linear_sum_assignment(cost)
    to_small[rows], to_large[columns] = columns, rows
    while (left := np.flatnonzero(to_small < 0)).size:
        rows, columns = linear_sum_assignment(cost[left])
        to_small[left[rows]] = columns
    return to_small, to_large
