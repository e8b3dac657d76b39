"""ADCA, PGM and GUR beside their public code."""

from __future__ import annotations

from tests.oracles.cases import Comparison, Mutation

COMPARISONS: dict[str, Comparison] = {}
MUTATIONS: list[Mutation] = []
