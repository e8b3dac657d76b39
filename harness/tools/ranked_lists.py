"""Ranked lists with their images: what finished runs found first for a query, read from their ranks and the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

from harness.errors import HarnessError
from harness.inputs.images import read_image
from harness.registry import load_protocols
from harness.runs.data import recognise
from harness.tools.figure_request import Queries, Wanted, runs_of
from protocols.base import LabelledImages, Modality, Protocol, Trial
from protocols.lists import list_digest
from results import Run
from results.comparable import line_groups
from results.comparisons import EPOCHS
from results.figures import RankedRow, Tile, ranked
from results.report import title_of
from results.report_parts import Sheet, sheet_of
from results.schema import Checkpoint, setting_order

HOW = ("random", "worst", "difference")
HEIGHT, WIDTH = 128, 64
"""Pixels of an image on a sheet."""
MOST = 60
"""Lists on a sheet; more could not be read."""
QUERIES_OF_REPORT = 3
FIRST = ("first_ten_rows", "first_ten_distances")
NEEDED = ("average_precision", "first_rank", "query_identity", *FIRST)
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Lists:
    """The ranked lists of some methods for the same queries.

    Attributes
    ----------
    trial : Trial
    ranks : mapping of method to arrays
        What :data:`NEEDED` names.
    where : str
        Protocol, setting, trial and seed, in words.
    """

    trial: Trial
    ranks: Mapping[str, Arrays]
    where: str


def draw_ranked(wanted: Wanted) -> Figure:
    """Draw the sheet that a person asks for."""
    lists = ranked_lists(runs_of(wanted), wanted.queries.setting, wanted.rule, wanted.sources.data)
    rows, says = ranked_rows(lists, wanted.queries, wanted.reference)
    return ranked(rows, says, wanted.columns)


def ranked_lists(runs: Sequence[Run], setting: str | None, rule: Checkpoint, data: str | None) -> Lists:
    """Take one trial, with its lists of images, and what each method's first run found in it.

    Raises
    ------
    HarnessError
        If the data are not there or other ones, runs lack their ranks, or there is no such setting.
    """
    rows = {run.id: run.metrics[run.metrics["checkpoint"] == rule] for run in runs}
    places = sorted(
        {
            (str(row["protocol"]), setting_order(row["setting"]), int(row["trial"]), str(row["list_digest"]))
            for part in rows.values()
            for row in part.to_dict("records")
            if setting in (None, row["setting"])
        }
    )
    if not places:
        known = sorted({one for part in rows.values() for one in part["setting"]})
        raise HarnessError(
            f"--setting {setting}: no run has it at the epoch {rule}; there are {', '.join(known)}"
        )
    protocol, (_, name), number, digest = places[0]
    root = data_root(runs, data)
    chosen: dict[str, Run] = {}
    for method, group in line_groups(runs).items():
        able = [run for run in group if digest in set(rows[run.id]["list_digest"])]
        if able:
            chosen[method] = min(able, key=lambda run: int(run.manifest["spec"]["seed"]))
    trial = trial_of(load_protocols(protocol)[0], root, next(iter(chosen.values())), name, number)
    if list_digest(trial) != digest:
        raise HarnessError(
            f"{root}: its lists of {protocol}, {name}, trial {number} are not those of the runs; give their data by "
            "--data"
        )
    place = f"{rule}/{protocol}/{name}/{number}/"
    seeds = sorted({int(run.manifest["spec"]["seed"]) for run in chosen.values()})
    where = f"{protocol}, {name}, trial {number}, seed {', '.join(map(str, seeds))}, {EPOCHS[rule]}"
    return Lists(trial, {method: kept(run, place) for method, run in chosen.items()}, where)


def data_root(runs: Sequence[Run], data: str | None) -> Path:
    """Return where the images are: as named, or where the first run had them."""
    given = data or str(runs[0].manifest.get("data_root") or "")
    root = Path(given).expanduser()
    if not given or not root.is_dir():
        where = f"the data are not at {given}" if given else "the runs do not say where their data are"
        raise HarnessError(f"{where}; say where they are with --data PATH")
    return root


def trial_of(protocol: Protocol, root: Path, run: Run, setting: str, number: int) -> Trial:
    """Return the lists of one trial."""
    spec = run.manifest["spec"]
    partial = spec.get("data") != "real"
    for trial in protocol.trials(root, int(spec["split"]), allow_partial=partial):
        if (trial.setting, trial.number) == (setting, number):
            return trial
    raise HarnessError(
        f"{root} has no trial {number} of {protocol.id}, {setting}; give the runs' data by --data"
    )


def kept(run: Run, place: str) -> Arrays:
    """Read what :data:`NEEDED` names of one trial."""
    ranks = run.ranks(lambda key: key.startswith(place) and key.removeprefix(place) in NEEDED)
    found = {name.removeprefix(place): array for name, array in ranks.items()}
    if lacking := [name for name in NEEDED if name not in found]:
        raise HarnessError(
            f"{run.path / 'ranks.npz'} has no {', '.join(lacking)} under {place}: an older version made the run; "
            "run it again with `reidbench run --force`"
        )
    return found


def ranked_rows(lists: Lists, queries: Queries, reference: str | None) -> tuple[list[RankedRow], str]:
    """Choose queries, and return a list of each method for each, with the sentence that says which they are.

    Raises
    ------
    HarnessError
        If there is no such way to choose, or it needs other runs.
    """
    order, chosen = choose(lists, queries, reference)
    if len(chosen) * len(order) > MOST:
        raise HarnessError(
            f"{len(chosen)} queries of {len(order)} methods are more than {MOST} lists; lower --count, or name fewer "
            "runs"
        )
    rows = [row_of(lists, method, int(query)) for query in chosen for method in order]
    return rows, f"{saying(queries, order, len(chosen))} {lists.where}."


def choose(lists: Lists, queries: Queries, reference: str | None) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the methods in the order of a sheet, the deciding one first, and the rows of the queries."""
    names = sorted(lists.ranks)
    if queries.how not in HOW:
        raise HarnessError(f"--queries {queries.how}: expected {', '.join(HOW)}")
    if queries.count < 1:
        raise HarnessError(f"--count {queries.count}: a sheet shows 1 query or more")
    if reference is not None and reference not in names:
        raise HarnessError(f"--reference {reference}: there are runs of {', '.join(names)} alone")
    if queries.how == "difference":
        if len(names) != 2:
            raise HarnessError(
                f"--queries difference compares two methods; these are runs of {', '.join(names)}"
            )
        b = reference or names[1]
        names = [*(name for name in names if name != b), b]
    elif queries.how == "worst":
        a = reference or names[0]
        names = [a, *(name for name in names if name != a)]
    first = np.asarray(lists.ranks[names[0]]["average_precision"], dtype=np.float64)
    valid = np.flatnonzero(np.isfinite(first))
    if not len(valid):
        raise HarnessError("no query has a match in the gallery")
    if queries.how == "random":
        drawn = np.random.default_rng(queries.seed).permutation(valid)[: queries.count]
        return names, np.sort(drawn)
    score = first if queries.how == "worst" else lists.ranks[names[1]]["average_precision"] - first
    return names, valid[np.argsort(score[valid], kind="stable")][: queries.count]


def saying(queries: Queries, order: Sequence[str], count: int) -> str:
    """Say which queries a sheet shows."""
    what = "1 query" if count == 1 else f"{count} queries"
    if queries.how == "random":
        return f"{what} drawn at random (seed {queries.seed}):"
    if queries.how == "worst":
        return f"The {what} with the lowest average precision of {order[0]}:"
    return f"The {what} with the largest gain in average precision of {order[0]} over {order[1]}:"


def row_of(lists: Lists, method: str, query: int) -> RankedRow:
    """Return what a method found for a query."""
    ranks, trial = lists.ranks[method], lists.trial
    if not np.array_equal(ranks["query_identity"], trial.query.identity):
        raise HarnessError(f"{method}: its queries are not those of the data; give the runs' data by --data")
    identity = int(trial.query.identity[query])
    found = [
        tile(trial.gallery, int(row), identity, float(distance))
        for row, distance in zip(*(ranks[name][query].tolist() for name in FIRST), strict=True)
        if 0 <= row < len(trial.gallery)
    ]
    score, first = float(ranks["average_precision"][query]), int(ranks["first_rank"][query])
    quality = (
        "no match in the gallery" if not first else f"AP {100 * score:.1f} %, first match at rank {first}"
    )
    return RankedRow(tile(trial.query, query), tuple(found), f"{method}: {quality}", method)


def tile(side: LabelledImages, row: int, identity: int | None = None, distance: float | None = None) -> Tile:
    """Read an image of a list; `identity` is the query's, None for the query itself."""
    images = side.images
    pixels = read_image(images.root / images.paths[row], HEIGHT, WIDTH, Image.Resampling.LANCZOS)
    return Tile(
        images.paths[row],
        int(images.camera[row]),
        Modality(int(images.modality[row])).name.lower(),
        np.ascontiguousarray(pixels.transpose(1, 2, 0)),
        None if identity is None else int(side.identity[row]) == identity,
        distance,
    )


def sheets_of(runs: Sequence[Run], roots: Sequence[Path]) -> dict[str, Sheet]:
    """Return the ranked lists of a report, by the titles of its sections.

    Raises
    ------
    HarnessError
        If no run is of a data set that lies at one of the roots.
    """
    found: dict[str, Sheet] = {}
    for root in roots:
        dataset = recognise(root).name
        parts: dict[str, list[Run]] = {}
        for run in runs:
            if run.manifest["spec"]["dataset"] == dataset:
                parts.setdefault(title_of(run), []).append(run)
        if not parts:
            raise HarnessError(f"--images {root} holds {dataset}, which no run is of")
        for title, group in parts.items():
            lists = ranked_lists(group, None, "last", str(root))
            count = min(QUERIES_OF_REPORT, max(1, MOST // len(lists.ranks)))
            found[title] = sheet_of(*ranked_rows(lists, Queries(count=count), None))
    return found
