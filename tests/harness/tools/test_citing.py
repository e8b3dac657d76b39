"""Entries of methods and data sets."""

from __future__ import annotations

from pathlib import Path

from harness.registry import datasets, load_method, methods
from harness.tools.citing import citations, dataset_entry, method_entry
from tests.results.cases import regdb_rows, write_run


def test_what_runs_used_is_cited(tmp_path: Path) -> None:
    for seed, method in enumerate(("dmic", "source-only")):
        write_run(tmp_path, regdb_rows(method, seed=seed), spec={"method": method})
    text = citations([tmp_path])
    assert text.count("@misc{dmic,") == 1
    assert "eprint = {2412.08231}" in text
    assert "howpublished = {IEEE TNNLS}" in text
    assert "@article{regdb," in text
    assert "@software{reidbench," in text
    assert "sysu" not in text
    assert text.count("{") == text.count("}")


def test_every_paper_and_data_set_has_an_entry() -> None:
    for name, entry in methods().items():
        reference = load_method(entry.name).reference
        assert (f"title = {{{reference.title}}}" in method_entry(name)) == bool(reference.venue), name
    for name in datasets():
        assert dataset_entry(name).startswith("@")
