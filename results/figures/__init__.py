"""Figures of results, ready for print: a module for each family, values in, a matplotlib figure out.

Every function takes what the rest of the package computes (comparisons, points, histories, timings) or plain arrays,
and the width in columns of a paper. Nothing here reads a run, an image or a network; equal values give equal bytes.
"""

from results.figures.cmc import cmc, cmc_points
from results.figures.comparisons import forest, pairs
from results.figures.costs import scaling, stages, timings
from results.figures.ranked import RankedRow, Tile, ranked
from results.figures.spaces import Points, distances, embedding, split
from results.figures.style import to_png, to_svg, write_figure
from results.figures.training import schedule, training

__all__ = [
    "Points",
    "RankedRow",
    "Tile",
    "cmc",
    "cmc_points",
    "distances",
    "embedding",
    "forest",
    "pairs",
    "ranked",
    "scaling",
    "schedule",
    "split",
    "stages",
    "timings",
    "to_png",
    "to_svg",
    "training",
    "write_figure",
]
