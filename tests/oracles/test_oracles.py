"""Every file of recorded numbers goes to the comparison that knows its kind; a file that none knows is a failure.

``pytest tests/oracles --oracles FOLDER`` compares the files of another folder too; ``-rP`` shows the differences.
Methods' files are known by their names, all others by what is in them.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.oracles.cases import Comparison, Kind, load

DATA = Path(__file__).parents[1] / "data"
SHIPPED = ("oracles", "clustering", "memory", "protocols")
TOPICS = sorted(path.stem for path in Path(__file__).parent.glob("compare_*.py"))
INPUTS = (".tree.json", ".idx.json")
"""Files that a comparison reads beside the one with the results."""
Check = Callable[[Path], dict[str, float]]


def checks_of(path: Path) -> list[Check]:
    """Return the comparisons that know a file: by its name, else by its suffix and keys."""
    modules = [importlib.import_module(f"tests.oracles.{topic}") for topic in TOPICS]
    named = [
        comparison
        for module in modules
        for pattern, comparison in getattr(module, "COMPARISONS", {}).items()
        if path.suffix == ".npz" and re.fullmatch(pattern, path.stem)
    ]
    kinds: list[Kind] = [kind for module in modules for kind in getattr(module, "FILES", ())]
    if named or not path.exists():
        return [partial(of_arrays, one) for one in named]
    keys = keys_of(path)
    return [kind.compare for kind in kinds if path.name.endswith(kind.suffix) and keys >= set(kind.keys)][:1]


def of_arrays(comparison: Comparison, path: Path) -> dict[str, float]:
    """Read a file and compare it."""
    return comparison(load(path))


def keys_of(path: Path) -> set[str]:
    """Return what a file of arrays, or of JSON, holds at its top."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return set(file.files)
    return set(json.loads(path.read_text()))


def recorded_in(folder: Path) -> list[Path]:
    """Return the files below a folder that have results in them."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".npz", ".json") and not path.name.endswith(INPUTS)
    ]


def files_of(folders: Iterable[str]) -> list[tuple[str, Path]]:
    """Return the files to compare with their names: the shipped ones, then those of `folders`."""
    files = [(path.stem, path) for name in SHIPPED for path in recorded_in(DATA / name)]
    for given in folders:
        folder = Path(given)
        more = recorded_in(folder)
        if not more:
            raise pytest.UsageError(f"--oracles {folder}: no recorded file (.npz, .json) there")
        files += [(f"{folder.name}/{path.relative_to(folder).with_suffix('')}", path) for path in more]
    return files


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "recorded" in metafunc.fixturenames:
        files = files_of(metafunc.config.getoption("oracles", None) or ())
        metafunc.parametrize("recorded", [path for _, path in files], ids=[name for name, _ in files])


@pytest.mark.filterwarnings("ignore")
def test_equals_public_code(recorded: Path) -> None:
    checks = checks_of(recorded)
    assert checks, f"no comparison knows {recorded.name}; see tests/oracles/compare_*.py"
    for check in checks:
        for what, difference in check(recorded).items():
            print(f"{recorded.stem}: {what}: {difference:.2g}")


def test_wrong_changes_still_apply() -> None:
    """The texts that `mutations.py` replaces stand in the code, so that it does not break unnoticed."""
    for topic in TOPICS:
        for mutation in getattr(importlib.import_module(f"tests.oracles.{topic}"), "MUTATIONS", ()):
            found = (Path(__file__).parents[2] / mutation.file).read_text().count(mutation.old)
            assert found == 1, f"{topic}: {mutation.about}: {found} times in {mutation.file}"


@pytest.mark.parametrize("name", ["nothing_of_this_name.npz", "sysu_all_single.npz", "other.json"])
def test_unknown_file_is_a_failure(tmp_path: Path, name: str) -> None:
    """Neither the name of a known case nor the suffix is enough."""
    path = tmp_path / name
    if path.suffix == ".npz":
        np.savez(path, kind="sysu", cmc=np.ones(20))
    else:
        path.write_text("{}")
    assert recorded_in(tmp_path) == [path]
    with pytest.raises(AssertionError, match="no comparison knows"):
        test_equals_public_code(path)
