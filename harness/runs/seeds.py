"""Seeds of a run's draws: each draw comes from a generator made from the run's seed, a purpose and indices.

Nothing depends on how many draws came before, so adding a method or an epoch never shifts another's numbers. Twins,
the galleries of protocols, projections of the neighbour search and ``reidbench time`` have seeds of other kinds.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np


def seed_for(run_seed: int, purpose: str, *indices: int | str) -> int:
    """Hash the arguments into a seed in 0 .. 2**63 - 1.

    Examples
    --------
    >>> seed_for(0, "sampler", 3) == seed_for(0, "sampler", 3)
    True
    >>> seed_for(0, "sampler", 3) == seed_for(0, "sampler", 4)
    False
    """
    text = json.dumps([int(run_seed), purpose, *indices])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(run_seed: int, purpose: str, *indices: int | str) -> np.random.Generator:
    """Return a NumPy generator seeded by :func:`seed_for`."""
    return np.random.Generator(np.random.PCG64(seed_for(run_seed, purpose, *indices)))
