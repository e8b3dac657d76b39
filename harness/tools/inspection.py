"""What is wrong with a run's directory or with a data root, in one list (``reidbench doctor RUN|DATA``)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

from harness.errors import HarnessError
from harness.runs.data import recognise
from harness.runs.manifest import spec_from_manifest
from harness.tools.doctor import Check
from harness.training.checkpoint import load_checkpoint
from protocols.base import DataError
from protocols.check import check
from results.checksums import changed_files
from results.errors import ResultsError
from results.manifests import is_finished, read_manifest
from results.store import read_run

AGAIN = "restore the file, or run it again with --force"


def inspect(path: Path) -> list[Check]:
    """Look over a run's directory, or else a data root.

    Raises
    ------
    HarnessError
        If there is no such folder.
    """
    if not path.is_dir():
        raise HarnessError(f"{path}: no such folder; give the directory of a run, or the root of a data set")
    is_run = (path / "manifest.json").exists() or (path / "checkpoints").is_dir()
    look = run_checks if is_run else data_checks
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checks = list(look(path))
    return [
        *checks,
        *(Check("note", True, text) for text in dict.fromkeys(str(one.message) for one in caught)),
    ]


def run_checks(run: Path) -> Iterator[Check]:
    """Yield a finding for the manifest, the files, each checkpoint, leftovers and the log of a run."""
    finished = is_finished(run)
    yield Check("state", True, "finished" if finished else "not finished: the same command goes on with it")
    yield manifest_check(run / "manifest.json")
    if finished:
        yield from file_checks(run)
    for path in sorted(run.glob("checkpoints/*.ckpt")):
        try:
            load_checkpoint(path)
            yield Check(path.name, True, "readable, and what was written")
        except HarnessError as error:
            yield Check(path.name, False, str(error), AGAIN)
    left = [path for path in (*run.glob(".*.*"), *run.glob("checkpoints/.*.*")) if path.is_file()]
    size = sum(path.stat().st_size for path in left) / 2**20
    if left:
        yield Check(
            "leftovers",
            True,
            f"{len(left)} of a killed process, {size:.1f} MiB; the next command deletes them",
        )
    for name in ("log.txt", "checkpoints"):
        if (run / name).is_symlink():
            yield Check(name, False, "it is a link, which a run does not follow", "delete it")


def manifest_check(path: Path) -> Check:
    """Say whether a manifest describes a run whose data are there."""
    try:
        content = read_manifest(path)
        spec, root = spec_from_manifest(path, content)
    except (ResultsError, HarnessError) as error:
        return Check("manifest", False, str(error), AGAIN)
    if spec.id != content["run"]:
        return Check("manifest", False, f"it describes run {spec.id}, not {content['run']}", AGAIN)
    if not root.is_dir():
        return Check(
            "manifest", True, f"{spec.label} on {spec.dataset}; its data root {root} is not there now"
        )
    return Check("manifest", True, f"{spec.label} on {spec.dataset}, data root {root}")


def file_checks(run: Path) -> Iterator[Check]:
    """Yield what has changed of a finished run since, and whether its tables are readable."""
    try:
        wrong = changed_files(run)
        yield from (Check("files", False, text, AGAIN) for text in wrong)
        read_run(run).ranks()
    except ResultsError as error:
        yield Check("tables", False, str(error), AGAIN)
    else:
        yield Check("files", True, "all are what the run wrote")


def data_checks(root: Path) -> Iterator[Check]:
    """Yield the counts that are not the known ones and every odd file of a data root."""
    try:
        dataset = recognise(root)
        report = check(root, dataset)
    except DataError as error:
        yield Check("data", False, str(error), "get the original files")
        return
    kind = "a synthetic twin" if report.synthetic else "real data"
    yield Check("data", True, f"{dataset.name}, {kind}")
    for row in report.rows:
        if not row.ok:
            yield Check(
                row.what, False, f"{row.found} instead of {row.expected}", "restore the missing files"
            )
    yield from (Check("image", False, problem, "replace or remove the file") for problem in report.problems)
