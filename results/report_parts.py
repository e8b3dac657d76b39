"""Parts of the report of one data set: its figures at two widths, what they say in words, and ranked lists."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from results.comparisons import EPOCHS, verdict
from results.errors import ResultsError
from results.figures import RankedRow, Tile, cmc, cmc_points, forest, pairs, stages, training
from results.figures.ranked import MARKS
from results.figures.training import training_lines
from results.intervals import holm
from results.store import Run
from results.svg import inline_svg

MOST_PAIRS = 15
"""Methods up to which a matrix of all pairs can be read."""
THUMBNAIL = (48, 96)


@dataclass(frozen=True)
class Drawing:
    """A figure of a page, for screens of two kinds; `lacking` says why there is none."""

    title: str
    wide: str = ""
    narrow: str = ""
    lacking: str = ""


@dataclass(frozen=True)
class Thumbnail:
    """An image of a ranked list, as a page shows it."""

    style: str
    mark: str
    address: str
    words: str
    about: str


@dataclass(frozen=True)
class ShownList:
    """A ranked list of a page."""

    method: str
    says: str
    images: tuple[Thumbnail, ...]


@dataclass(frozen=True)
class Sheet:
    """Ranked lists, and which queries they are of."""

    says: str
    lists: tuple[ShownList, ...]


def drawing(title: str, key: str, words: str, draw: Callable[[int], Figure]) -> Drawing:
    """Draw a figure two columns wide and one column wide; what cannot be drawn says why."""
    try:
        wide, narrow = draw(2), draw(1)
    except ResultsError as error:
        return Drawing(title, lacking=str(error))
    return Drawing(title, inline_svg(wide, f"{key}-w", words), inline_svg(narrow, f"{key}-n", words))


def drawings(
    key: str,
    runs: Sequence[Run],
    groups: Mapping[str, Sequence[Run]],
    found: pd.DataFrame | None,
    costs: pd.DataFrame,
) -> list[Drawing]:
    """Draw what finished runs allow.

    Parameters
    ----------
    key : str
        Begins the ids within the figures.
    groups : mapping of a line's name to its runs
    found : DataFrame, optional
        The comparison of all pairs; None where there is none.
    costs : DataFrame
        Of :func:`results.figures.timings`.
    """
    made = []
    if found is not None:
        best = best_of(found)
        gaps = against(found, best)
        words = "; ".join(
            f"{row['protocol']} {row['setting']}: {row['a']} {row['difference']:+.1f} "
            f"({row['low']:.1f} to {row['high']:.1f})"
            for row in gaps.to_dict("records")
        )
        text = f"Differences in mAP to {best} with 95 % intervals. {words}"
        made.append(drawing(f"Differences to {best}", f"{key}-forest", text, lambda c: forest(gaps, c)))
        if 2 < len(groups) <= MOST_PAIRS:
            text = (
                "Matrix of the differences in mAP of all pairs of methods, and of their p-values after Holm"
            )
            made.append(drawing("All pairs", f"{key}-pairs", text, lambda c: pairs(found, c)))
    made.append(matching(key, runs))
    histories = {name: [run.history for run in group] for name, group in groups.items()}
    try:
        curves = training_lines(histories)
    except ResultsError:  # nothing trains
        pass
    else:
        text = (
            "Curves over epochs: test mAP, quality of pseudo-labels, clusters and schedules of every method"
        )
        made.append(drawing("Training", f"{key}-training", text, lambda c: training(curves, c)))
    if len(costs) and costs["seconds"].sum():
        slowest = costs.groupby("method")["seconds"].sum()
        words = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in slowest.items())
        text = f"Seconds of one run by stage, stacked. {words}"
        made.append(
            drawing("Where the time of a run goes", f"{key}-stages", text, lambda c: stages(costs, c))
        )
    return made


def matching(key: str, runs: Sequence[Run]) -> Drawing:
    """Draw the matching rates, or say what the runs lack."""
    title = "Cumulative matching, last epoch"
    try:
        points = cmc_points(runs)
    except ResultsError as error:
        return Drawing(title, lacking=str(error))
    first = points[points["rank"] == 1]
    words = "; ".join(
        f"{row['protocol']} {row['setting']} {row['method']} {row['value']:.1f} %"
        for row in first.to_dict("records")
    )
    return drawing(
        title, f"{key}-cmc", f"Matching rates at ranks 1 to 20. At rank 1: {words}", lambda c: cmc(points, c)
    )


def against(found: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Return, of the differences of all pairs, those to one method, as a comparison with this reference gives them."""
    rows = found[((found["a"] == reference) | (found["b"] == reference)) & (found["b"] != "")].copy()
    flipped = rows["a"].eq(reference)
    turned = rows[flipped]
    rows.loc[flipped, ["a", "b"]] = turned[["b", "a"]].to_numpy()
    for low, high in (("low", "high"), ("training_low", "training_high"), ("check_low", "check_high")):
        rows.loc[flipped, [low, high]] = -turned[[high, low]].to_numpy()
    rows.loc[flipped, "difference"] *= -1
    for _, place in rows.groupby(["protocol", "setting"]):
        rows.loc[place.index, "p_holm"] = holm(place["p"].tolist())
    return rows


def best_of(found: pd.DataFrame) -> str:
    """Return the method with the largest mean over settings."""
    alone = found[found["b"] == ""].groupby("a")["mean_a"].mean()
    return str(alone.sort_index().idxmax())


def summary(found: pd.DataFrame | None, table: pd.DataFrame, supervised: set[str], lacking: str) -> list[str]:
    """Say in words which method is best in each setting, and whether the next one can be told from it.

    Parameters
    ----------
    found : DataFrame, optional
        The comparison of all pairs.
    table : DataFrame
        protocol, setting, method and mAP of every line.
    supervised : set of str
        Methods that are trained with identities, and so compete with none.
    lacking : str
        Why there is no comparison.
    """
    sentences = []
    for (protocol, setting), part in table.groupby(["protocol", "setting"], sort=False):
        ranking = part[~part["method"].isin(supervised)].dropna(subset="mAP")
        ranking = ranking.sort_values(["mAP", "method"], ascending=[False, True])
        if ranking.empty:
            continue
        first = ranking.iloc[0]
        text = f"{protocol}, {setting}: {first['method']} has the highest mAP of {EPOCHS['last']}, {first['mAP']:.1f} %"
        if len(ranking) == 1:
            text = f"{protocol}, {setting}: {first['method']} has an mAP of {first['mAP']:.1f} % at {EPOCHS['last']}"
        else:
            second = ranking.iloc[1]
            text += f"; next is {second['method']} with {second['mAP']:.1f} %"
            if found is not None:
                text += told_apart(found, (protocol, setting), {first["method"], second["method"]})
        sentences.append(f"{text}.")
    if supervised:
        sentences.append(f"Trained with identities, and not ranked: {', '.join(sorted(supervised))}.")
    if lacking:
        sentences.append(f"Differences were not tested: {lacking}.")
    return sentences


def told_apart(found: pd.DataFrame, place: tuple[object, object], names: set[str]) -> str:
    """Say whether two methods can be told apart."""
    here = found[(found["protocol"] == place[0]) & (found["setting"] == place[1])]
    for line in here.to_dict("records"):
        row = {str(name): value for name, value in line.items()}
        if {row["a"], row["b"]} == names:
            sign = 1 if row["difference"] >= 0 else -1
            low, high = sorted((sign * row["low"], sign * row["high"]))
            return (
                f"; the difference is {abs(row['difference']):.1f} ({low:.1f} to {high:.1f}): {verdict(row)}"
            )
    return ""


def sheet_of(rows: Sequence[RankedRow], says: str) -> Sheet:
    """Make a page's lists of ranked lists."""
    return Sheet(says, tuple(shown_list(row) for row in rows))


def shown_list(row: RankedRow) -> ShownList:
    """Make a page's list of one query."""
    images = [thumbnail(row.query, 0), *(thumbnail(tile, rank) for rank, tile in enumerate(row.found, 1))]
    return ShownList(row.method, row.says, tuple(images))


def thumbnail(tile: Tile, rank: int) -> Thumbnail:
    """Make a page's image of one of a list."""
    about = f"camera {tile.camera}, {tile.modality}, {tile.name}"
    if tile.right is None:
        return Thumbnail("query", "query", address(tile.pixels), f"query, {about}", about)
    style = "right" if tile.right else "wrong"
    words = f"rank {rank}, {style}: {about}"
    return Thumbnail(style, f"{MARKS[tile.right]} {rank}", address(tile.pixels), words, about)


def address(pixels: npt.NDArray[np.uint8]) -> str:
    """Return an image, made small, as a data address."""
    file = io.BytesIO()
    Image.fromarray(pixels).resize(THUMBNAIL, Image.Resampling.LANCZOS).save(file, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
