"""Scores by query, out of ``ranks.npz``: what intervals are computed from.

Every metric follows from the ranks, so that any rank of a CMC curve has an interval without a new run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from results.comparable import IDENTITY, check_rows, line_names
from results.ranks import check_metric, query_scores
from results.schema import METRIC_NAMES, ResultsError
from results.store import Run, collect
from results.variance import FloatArray, IntArray

AGREEMENT = 1e-6
"""Percent by which a row may differ from the mean of its queries: rounding errors of sums."""
KEPT = ("query_identity", "average_precision", "hits", "hit_offsets", "first_rank")


@dataclass(frozen=True)
class TestSet:
    """One list of queries.

    Attributes
    ----------
    identity : int64 array (n,)
    scores : float64 array (S, n)
        In percent, by seed; NaN for a query without a match.
    """

    __test__ = False  # no test, whatever pytest makes of the name
    identity: IntArray
    scores: FloatArray

    def valid(self) -> TestSet:
        """Leave out the queries without a match."""
        kept = ~np.isnan(self.scores).any(axis=0)
        return TestSet(self.identity[kept], self.scores[:, kept])


@dataclass(frozen=True)
class MethodScores:
    """One method under one setting.

    Attributes
    ----------
    seeds, trials : tuples of int
        What the scores are of; a trial that some seed lacks is left out.
    sets : tuple of TestSet
        One, averaged over the trials, where these are galleries for the same queries; one a trial, in their order,
        where each trial has a training and queries of its own.
    """

    protocol: str
    setting: str
    method: str
    metric: str
    seeds: tuple[int, ...]
    trials: tuple[int, ...]
    sets: tuple[TestSet, ...]

    @property
    def place(self) -> tuple[str, str]:
        """Protocol and setting."""
        return self.protocol, self.setting

    def of_seeds(self, seeds: Sequence[int]) -> MethodScores:
        """Keep some of the seeds."""
        rows = [self.seeds.index(seed) for seed in seeds]
        sets = tuple(TestSet(one.identity, one.scores[rows]) for one in self.sets)
        return replace(self, seeds=tuple(seeds), sets=sets)

    def of_trials(self, trials: Sequence[int]) -> MethodScores:
        """Keep some of the trials, where each has its own queries."""
        sets = tuple(self.sets[self.trials.index(trial)] for trial in trials)
        return replace(self, trials=tuple(trials), sets=sets)


def trial_scores(
    run: Run, ranks: Mapping[str, Any], row: Mapping[Any, Any], metric: str
) -> tuple[IntArray, FloatArray]:
    """Return identity and score of each query of the trial of a metric row.

    Raises
    ------
    ResultsError
        If the file lacks them, or their mean is not the row's value.
    """
    place = "/".join(str(row[name]) for name in ("checkpoint", "protocol", "setting", "trial"))
    lacking = [name for name in KEPT if f"{place}/{name}" not in ranks]
    if lacking:
        raise ResultsError(
            f"{run.path / 'ranks.npz'} has no {', '.join(lacking)} under {place}: an older version made the run; "
            "run it again with `reidbench run --force`"
        )
    kept = {name: ranks[f"{place}/{name}"] for name in KEPT}
    scores = query_scores(kept, metric)
    mean = float(np.nanmean(scores)) if np.isfinite(scores).any() else np.nan
    if row["metric"] == metric and not abs(mean - row["value"]) <= AGREEMENT:
        raise ResultsError(
            f"{run.path}: metrics.csv says {metric} {row['value']:.6g} for {place}, ranks.npz gives {mean:.6g}; one of "
            "them was changed after the run. Run it again with `reidbench run --force`"
        )
    return np.asarray(kept["query_identity"], dtype=np.int64), scores


def stacked(parts: Sequence[tuple[IntArray, FloatArray]], where: str) -> tuple[IntArray, FloatArray]:
    """Return the identities and the scores (parts, queries) of trials that share their queries."""
    identity = parts[0][0]
    if any(not np.array_equal(one, identity) for one, _ in parts):
        raise ResultsError(
            f"{where}: the trials have different queries, and cannot be averaged query by query"
        )
    return identity, np.stack([scores for _, scores in parts])


def mean_of_galleries(scores: FloatArray) -> FloatArray:
    """Return the mean over the first axis of each query, over the galleries in which it has a match."""
    valid = ~np.isnan(scores)
    counts = valid.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(valid, scores, 0.0).sum(axis=0) / np.where(counts > 0, counts, np.nan))


@dataclass(frozen=True)
class Basis:
    """What the scores of one method under one setting rest on, whatever the metric.

    Attributes
    ----------
    rows : mapping of (seed, trial) to metric row
    split_is_trial : bool
        Whether each trial has a training and queries of its own.
    """

    name: str
    protocol: str
    setting: str
    seeds: tuple[int, ...]
    trials: tuple[int, ...]
    split_is_trial: bool
    rows: Mapping[tuple[int, int], Mapping[Any, Any]]


def basis_of(name: str, rows: pd.DataFrame) -> Basis:
    """Return what the rows of one method, setting, metric and checkpoint rule rest on.

    Raises
    ------
    ResultsError
        If they are of several lines, or the seeds share no trial.
    """
    first = rows.iloc[0]
    protocol, setting = str(first["protocol"]), str(first["setting"])
    variants = rows[list(IDENTITY)].drop_duplicates()
    if len(variants) > 1:
        differing = [column for column in IDENTITY if variants[column].nunique() > 1]
        raise ResultsError(f"{name} stands for several lines, which differ in {', '.join(differing)}")
    seeds = sorted(set(rows["seed"]))
    shared = set.intersection(*(set(part["trial"]) for _, part in rows.groupby("seed")))
    if not shared:
        raise ResultsError(
            f"{name}, {protocol}, {setting}: its seeds share no trial; score all of them on the same trials"
        )
    kept = {(row["seed"], row["trial"]): row for row in rows[rows["trial"].isin(shared)].to_dict("records")}
    return Basis(
        name, protocol, setting, tuple(seeds), tuple(sorted(shared)), bool(first["split_is_trial"]), kept
    )


def method_scores(
    basis: Basis, by_id: Mapping[str, Run], open_ranks: Mapping[str, Any], metric: str
) -> MethodScores:
    """Return the scores of one method under one setting."""
    where = f"{basis.name}, {basis.protocol}, {basis.setting}"
    seeds, trials = basis.seeds, basis.trials
    found: dict[tuple[int, int], tuple[IntArray, FloatArray]] = {}
    for place, row in basis.rows.items():
        run = str(row["run"])
        found[place] = trial_scores(by_id[run], open_ranks[run], row, metric)
    if basis.split_is_trial:
        parts = [stacked([found[seed, trial] for seed in seeds], where) for trial in trials]
    else:
        identity, _ = stacked(list(found.values()), where)
        means = [mean_of_galleries(np.stack([found[seed, trial][1] for trial in trials])) for seed in seeds]
        parts = [(identity, np.stack(means))]
    sets = tuple(TestSet(*part).valid() for part in parts)
    return MethodScores(basis.protocol, basis.setting, basis.name, metric, seeds, trials, sets)


def load_scores(runs: Sequence[Run], metric: str = "mAP", checkpoint: str = "last") -> list[MethodScores]:
    """Return the scores by query of every method under every setting.

    Parameters
    ----------
    runs : sequence of Run
        Finished ones, in any order.
    metric : str
        ``mAP``, ``mINP`` or ``rank-K``.
    checkpoint : str
        Which epoch; see :data:`results.schema.Checkpoint`.

    Raises
    ------
    ResultsError
        If the rows cannot be compared; if a run lacks ranks, or they disagree with its rows; if trials have
        different queries.
    """
    check_metric(metric)
    rows = check_rows(collect(runs))
    rows = rows.assign(line=line_names(rows))
    counted = metric if metric in METRIC_NAMES else "mAP"
    rows = rows[(rows["checkpoint"] == checkpoint) & (rows["metric"] == counted)]
    if rows.empty:
        raise ResultsError(f"no run has rows of the epoch {checkpoint!r}")
    by_id = {run.id: run for run in runs}
    ranks = {run.id: needed_ranks(run, checkpoint) for run in runs}
    return list(scores_of(rows, by_id, ranks, metric))


def needed_ranks(run: Run, checkpoint: str) -> dict[str, Any]:
    """Read what :data:`KEPT` names of one checkpoint rule."""
    return run.ranks(lambda key: key.startswith(f"{checkpoint}/") and key.rsplit("/", 1)[-1] in KEPT)


def scores_of(
    rows: pd.DataFrame, by_id: Mapping[str, Run], ranks: Mapping[str, Any], metric: str
) -> Iterator[MethodScores]:
    """Yield the scores of each protocol, setting and line."""
    for basis in bases_of(rows):
        yield method_scores(basis, by_id, ranks, metric)


def bases_of(rows: pd.DataFrame) -> list[Basis]:
    """Return what the scores of each protocol, setting and line rest on."""
    groups = rows.groupby(["protocol", "setting", "line"], sort=True)
    return [basis_of(str(name), part) for (_, _, name), part in groups]
