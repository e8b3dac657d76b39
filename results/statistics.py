"""Whether two methods differ: a paired test over seeds."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from results.comparable import IDENTITY, check_rows, compact
from results.schema import ResultsError


def significance(rows: pd.DataFrame, a: str, b: str, metric: str = "mAP") -> pd.DataFrame:
    """Test the difference a - b of two methods at the last epoch: a paired t-test over seeds.

    Trials of a seed are averaged first: they share data, so they are no independent observations.

    Parameters
    ----------
    a, b : str
        Methods as the rows name them.

    Returns
    -------
    DataFrame
        protocol, setting, metric, seeds (pairs), difference and its std over pairs, t, p (two-sided; NaN if
        all pairs differ equally).

    Raises
    ------
    ResultsError
        If fewer than two seeds are shared, a pair was scored on unequal trials, or a name is ambiguous.
    """
    rows = check_rows(rows)
    methods = sorted(set(rows["method"]))
    if a == b or not {a, b} <= set(methods):
        raise ResultsError(f"give two of the methods {', '.join(methods)}, not {a} and {b}")
    rows = rows[(rows["checkpoint"] == "last") & (rows["metric"] == metric)]
    tested = []
    for (protocol, setting), group in rows.groupby(["protocol", "setting"], sort=True):
        pairs = seed_pairs(group, a, b, f"{protocol}, {setting}")
        tested.append({"protocol": protocol, "setting": setting, "metric": metric} | paired_test(pairs))
    return pd.DataFrame(tested)


def seed_pairs(rows: pd.DataFrame, a: str, b: str, where: str) -> pd.DataFrame:
    """Return mean_a, mean_b and the trials of each seed that both methods have, in one setting."""
    pairs = seed_means(rows, a).merge(seed_means(rows, b), on="seed", suffixes=("_a", "_b"))
    if len(pairs) < 2:
        raise ResultsError(f"{where}: {a} and {b} share {len(pairs)} seeds; a paired test needs two or more")
    if (pairs["trials_a"] != pairs["trials_b"]).any():
        raise ResultsError(f"{where}: {a} and {b} were not scored on the same trials in every seed")
    return pairs


def seed_means(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return mean value and trials per seed of one method in one setting."""
    rows = rows[rows["method"] == method]
    variants = rows[list(IDENTITY)].drop_duplicates()
    if len(variants) > 1:
        differing = [name for name in IDENTITY if variants[name].nunique() > 1]
        raise ResultsError(f"{method} stands for several lines, which differ in {', '.join(differing)}")
    by_seed = rows.groupby("seed")
    return pd.DataFrame({"mean": by_seed["value"].mean(), "trials": by_seed["trial"].unique().map(compact)})


def paired_test(pairs: pd.DataFrame) -> dict[str, Any]:
    """Test the columns mean_a and mean_b (n,) of pairs."""
    from scipy.stats import ttest_rel  # half a second that tables need not wait for

    difference = pairs["mean_a"] - pairs["mean_b"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # equal differences have no deviation
        test = ttest_rel(pairs["mean_a"], pairs["mean_b"])
    constant = bool(np.isclose(difference.std(ddof=1), 0, atol=1e-12))
    return {
        "seeds": len(pairs),
        "difference": float(difference.mean()),
        "std": float(difference.std(ddof=1)),
        "t": np.nan if constant else float(test.statistic),
        "p": np.nan if constant else float(test.pvalue),
    }
