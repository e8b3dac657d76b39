"""Every file of recorded numbers goes to the comparison that knows its kind; a file that none knows is a failure.

``pytest tests/oracles --oracles FOLDER`` compares the files of another folder too; ``-rP`` shows the differences.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tests.oracles.cases import SHIPPED, Comparison, load

TOPICS = sorted(path.stem for path in Path(__file__).parent.glob("compare_*.py"))


def comparisons_of(stem: str) -> list[Comparison]:
    """Return the comparisons that know a file of this name."""
    found: list[Comparison] = []
    for topic in TOPICS:
        known = importlib.import_module(f"tests.oracles.{topic}").COMPARISONS
        found += [comparison for pattern, comparison in known.items() if re.fullmatch(pattern, stem)]
    return found


def files_of(config: pytest.Config) -> list[tuple[str, Path]]:
    """Return the files to compare with their names: the shipped ones, then those of ``--oracles``."""
    files = [(path.stem, path) for path in sorted(SHIPPED.glob("*.npz"))]
    for given in config.getoption("oracles", None) or ():
        folder = Path(given)
        more = sorted(folder.rglob("*.npz"))
        if not more:
            raise pytest.UsageError(f"--oracles {folder}: no .npz file there")
        files += [(f"{folder.name}/{path.relative_to(folder).with_suffix('')}", path) for path in more]
    return files


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "recorded" in metafunc.fixturenames:
        files = files_of(metafunc.config)
        metafunc.parametrize("recorded", [path for _, path in files], ids=[name for name, _ in files])


def test_equals_public_code(recorded: Path) -> None:
    comparisons = comparisons_of(recorded.stem)
    assert comparisons, f"no comparison knows {recorded.name}; see tests/oracles/compare_*.py"
    for comparison in comparisons:
        for kind, difference in comparison(load(recorded)).items():
            print(f"{recorded.stem}: {kind}: {difference:.2g}")


def test_wrong_changes_still_apply() -> None:
    """The texts that `mutations.py` replaces stand in the code, so that it does not break unnoticed."""
    for topic in TOPICS:
        for mutation in getattr(importlib.import_module(f"tests.oracles.{topic}"), "MUTATIONS", ()):
            found = (Path(__file__).parents[2] / mutation.file).read_text().count(mutation.old)
            assert found == 1, f"{topic}: {mutation.about}: {found} times in {mutation.file}"


def test_unknown_file_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no comparison knows"):
        test_equals_public_code(tmp_path / "nothing_of_this_name.npz")
