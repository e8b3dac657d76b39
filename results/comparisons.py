"""Comparisons of methods, from finished runs: a frame of numbers, the same in plain words, and as CSV."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from results.comparable import compact
from results.intervals import Interval, holm
from results.schema import Checkpoint, ResultsError, setting_order
from results.scores import MethodScores, load_scores
from results.statistics import TRAINING, OneMethod, matched, one_method, two_methods
from results.store import Run, find_runs

EPOCHS: Mapping[str, str] = {
    "last": "the last epoch",
    "best-on-test": "the best epoch on the test set (a leak)",
    "best-of-last-stage": "the last stage's best epoch on the test set (a leak)",
}


def compare(
    runs: Sequence[Run] | Path | str,
    a: str | None = None,
    b: str | None = None,
    *,
    metric: str = "mAP",
    reference: str | None = None,
    checkpoint: Checkpoint = "last",
) -> pd.DataFrame:
    """Compare methods query by query: each alone, then their differences.

    Parameters
    ----------
    runs : sequence of Run, or path
        Finished ones, as :func:`results.store.find_runs` gives, or a folder of some.
    a, b : str, optional
        Two methods as rows name them (``dmic``, ``dmic @ demo`` where there are several presets); else all pairs.
    metric : str
        ``mAP``, ``mINP`` or ``rank-K``.
    reference : str, optional
        Compare each other method with this one alone, in place of all pairs.
    checkpoint : str
        Which epoch.

    Returns
    -------
    DataFrame
        A row per protocol, setting and method (``b`` is empty), then one per pair. mean_a, mean_b, difference (a - b;
        of one method its mean); low, high, error, freedom, p of the interval that ``says`` names; p_holm over the
        pairs of a protocol and setting; training_low, training_high for the same test images and new trainings;
        check_low, check_high, check_p by Nadeau and Bengio; detectable; wins, losses, ties by identity; sd_* of
        one method. In percent; NaN where the runs do not say.

    Raises
    ------
    ResultsError
        If a name is unknown or ambiguous, the two share no setting, seed or trial, or ranks are missing.
    """
    if isinstance(runs, Path | str):
        runs = find_runs([Path(runs)]).runs
    scores = load_scores(runs, metric, checkpoint)
    names = sorted({one.method for one in scores})
    pairs = wanted_pairs(names, a, b, reference)
    chosen = {name for pair in pairs for name in pair}
    rows = []
    for place in sorted({one.place for one in scores}, key=lambda p: (p[0], setting_order(p[1]))):
        here = {one.method: one for one in scores if one.place == place and one.method in chosen}
        rows += [method_row(one) for one in here.values()]
        differences = [pair_row(here[x], here[y]) for x, y in pairs if x in here and y in here]
        adjusted = holm([row["p"] for row in differences])
        rows += [row | {"p_holm": p} for row, p in zip(differences, adjusted, strict=True)]
    if not any(row["b"] for row in rows):
        raise ResultsError(f"{' and '.join(sorted(chosen))} share no protocol and setting")
    return pd.DataFrame(rows).assign(checkpoint=checkpoint)


def wanted_pairs(
    names: Sequence[str], a: str | None, b: str | None, reference: str | None
) -> list[tuple[str, str]]:
    """Return the pairs to compare.

    Raises
    ------
    ResultsError
        If a name is not among `names`, or two are the same, or there is nothing to compare with.
    """
    for name in (a, b, reference):
        if name is not None and name not in names:
            raise ResultsError(f"no method {name!r} in these runs; there are {', '.join(names)}")
    if a is not None and b is not None:
        if a == b:
            raise ResultsError(f"{a} cannot be compared with itself; give two of {', '.join(names)}")
        return [(a, b)]
    if reference is not None:
        pairs = [(name, reference) for name in names if name != reference]
    else:
        pairs = list(itertools.combinations(names, 2))
    if not pairs:
        raise ResultsError(f"there is one method alone, {', '.join(names)}; a comparison needs two")
    return pairs


def basis(scores: MethodScores) -> dict[str, Any]:
    """Return what a row rests on."""
    return {
        "protocol": scores.protocol,
        "setting": scores.setting,
        "metric": scores.metric,
        "seeds": compact(scores.seeds),
        "n_seeds": len(scores.seeds),
        "trials": compact(scores.trials),
        "identities": len(np.unique(np.concatenate([one.identity for one in scores.sets]))),
        "queries": sum(len(one.identity) for one in scores.sets),
    }


def interval_columns(people: Interval, training: Interval) -> dict[str, float]:
    """Return the numbers of both intervals."""
    return {
        **people._asdict(),
        "p_holm": math.nan,
        "training_low": training.low,
        "training_high": training.high,
    }


def method_row(scores: MethodScores) -> dict[str, Any]:
    """Return the row of one method; its p against zero says nothing and is left out."""
    found = one_method(scores)
    return {
        **basis(scores),
        "a": scores.method,
        "b": "",
        "mean_a": found.mean,
        "mean_b": math.nan,
        "difference": math.nan,
        "says": found.says,
        **interval_columns(found.people._replace(p=math.nan), found.training),
        **sd_columns(found),
    }


def sd_columns(found: OneMethod) -> dict[str, float]:
    """Return the standard deviations of the components."""
    return {f"sd_{name}": value for name, value in found.components._asdict().items()}


def pair_row(a: MethodScores, b: MethodScores) -> dict[str, Any]:
    """Return the row of a difference."""
    found = two_methods(a, b)
    shared, _ = matched(a, b)
    return {
        **basis(shared),
        "a": a.method,
        "b": b.method,
        "mean_a": found.mean_a,
        "mean_b": found.mean_b,
        "difference": found.difference,
        "says": found.says,
        **interval_columns(found.people, found.training),
        "check_low": found.check.low,
        "check_high": found.check.high,
        "check_p": found.check.p,
        "detectable": found.detectable,
        "wins": found.wins,
        "losses": found.losses,
        "ties": found.ties,
    }


def comparison_csv(found: pd.DataFrame) -> str:
    """Return a comparison as CSV with all digits; what is unknown is empty."""
    counts = found.copy()
    for name in ("wins", "losses", "ties"):
        counts[name] = counts[name].astype("Int64")
    return counts.to_csv(index=False, lineterminator="\n")


def comparison_words(found: pd.DataFrame, names: Mapping[str, str] | None = None) -> str:
    """Return a comparison in plain words.

    Parameters
    ----------
    found : DataFrame
        What :func:`compare` gives.
    names : mapping of str to str, optional
        What methods are called; those it lacks keep their names.
    """
    first = found.iloc[0]
    lines = [f"{first['metric']} at {EPOCHS[first['checkpoint']]}, in percent. Intervals are of 95 %.", ""]
    for (protocol, setting), part in found.groupby(["protocol", "setting"], sort=False):
        lines += [f"{protocol}, {setting}", ""]
        pairs = int((part["b"] != "").sum())
        for row in part.to_dict("records"):
            called = {side: (names or {}).get(row[side], row[side]) for side in ("a", "b")}
            said = {str(name): value for name, value in row.items()} | called
            lines += pair_words(said, pairs) if said["b"] else method_words(said)
        lines.append("")
    lines += list(explanation(found))
    return "\n".join(lines) + "\n"


def rests_on(row: Mapping[str, Any]) -> str:
    """Say seeds, trials, people and queries of a row."""
    seeds = "seed" if row["n_seeds"] == 1 else "seeds"
    return f"{seeds} {row['seeds']}, trials {row['trials']}, {row['identities']} people, {row['queries']} queries"


def training_words(row: Mapping[str, Any]) -> str:
    """Say the interval over trainings, or that one seed gives none."""
    if math.isnan(row["training_low"]):
        return f"{TRAINING}: training variance unknown, there is one seed"
    return f"{TRAINING}: {row['training_low']:.2f} to {row['training_high']:.2f}"


def method_words(row: Mapping[str, Any]) -> list[str]:
    """Return the sentences about one method."""
    parts = {
        "people": row["sd_identity"],
        "trainings": row["sd_seed"],
        "trainings from person to person": row["sd_seed_identity"],
        "images of one person": row["sd_query"],
        "trials": row["sd_trial"],
    }
    known = [f"{name} {value:.2f}" for name, value in parts.items() if not math.isnan(value)]
    return [
        f"{row['a']}: {row['mean_a']:.2f} ({rests_on(row)})",
        f"    {row['says']}: {row['low']:.2f} to {row['high']:.2f}; {training_words(row)}",
        f"    standard deviation of {', of '.join(known)}",
    ]


def pair_words(row: Mapping[str, Any], pairs: int) -> list[str]:
    """Return the sentences about a difference; `pairs` are compared under this setting."""
    p = "no p: every person differs by the same" if math.isnan(row["p"]) else f"p = {p_text(row['p'])}"
    if pairs > 1 and not math.isnan(row["p_holm"]):
        p += f", {p_text(row['p_holm'])} after Holm over {pairs} comparisons"
    lines = [
        f"{row['a']} - {row['b']}: {row['difference']:+.2f}, {row['low']:.2f} to {row['high']:.2f} ({row['says']}); "
        f"{p}",
        f"    {verdict(row)}",
        f"    {training_words(row)}",
        f"    better for {row['wins']:.0f} people, worse for {row['losses']:.0f}, equal for {row['ties']:.0f}; "
        f"{rests_on(row)}",
    ]
    if not math.isnan(row["check_low"]):
        lines.insert(
            3,
            f"    conservative check over trials (Nadeau and Bengio): {row['check_low']:.2f} to "
            f"{row['check_high']:.2f}, p = {p_text(row['check_p'])}",
        )
    return lines


def p_text(p: float) -> str:
    """Return a p-value with as many digits as one reads."""
    return "below 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def verdict(row: Mapping[str, Any]) -> str:
    """Say in words what a difference comes to."""
    seeds = f"{row['n_seeds']} seed{'s' * (row['n_seeds'] > 1)}"
    if not math.isnan(row["check_low"]):
        seeds += f" of trials {row['trials']}"
    p = row["p"] if math.isnan(row["p_holm"]) else row["p_holm"]
    if row["difference"] == 0 and row["error"] == 0:
        return f"no difference: every person is found equally well, with {seeds}"
    if math.isnan(p):
        return f"every person differs by the same with {seeds}: there is no variance to test against"
    better = row["a"] if row["difference"] > 0 else row["b"]
    found = f"{better} is better" if p < 0.05 else "not distinguishable"
    return f"{found} with {seeds}; a difference of {row['detectable']:.1f} would be found 8 times of 10"


def explanation(found: pd.DataFrame) -> Iterator[str]:
    """Yield what a reader must know of the numbers."""
    yield (
        "A person is the unit: images of one person, and galleries of one training, are no repetitions "
        "(docs/statistics.md)."
    )
    models = found[(found["b"] != "") & (found["n_seeds"] == 1) & found["check_low"].isna()]
    if len(models):
        yield "With one seed, a comparison is of two trained models: another training of either may turn it round."
