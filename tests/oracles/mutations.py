"""Shows that the comparisons can fail: wrong changes to a copy of the code, each of which a test must notice.

``python -m tests.oracles.mutations [PART OF A FILE'S NAME ...]`` prints a table of what caught each, and exits 1 if a
change went unnoticed. The changes stand beside the comparisons, in their lists MUTATIONS.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from tests.oracles.cases import Mutation
from tests.oracles.test_oracles import TOPICS

ROOT = Path(__file__).parents[2]
KEPT = ("harness", "methods", "protocols", "results", "tests", "pyproject.toml", "reidbench.py")
TEST = "tests/oracles/test_oracles.py::test_equals_public_code"
LIBRARIES = ("torch", "numba", "scipy.optimize", "sklearn.cluster", "pandas", "pytest")
"""Imported once; what tests a change starts with them."""


def mutations() -> list[Mutation]:
    """Return the wrong changes of all topics."""
    topics = [importlib.import_module(f"tests.oracles.{topic}") for topic in TOPICS]
    return [mutation for topic in topics for mutation in getattr(topic, "MUTATIONS", [])]


def copy_code(target: Path) -> None:
    """Copy what the tests need, compiled kernels among it."""
    for name in KEPT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("*.pyc"))
        else:
            shutil.copy(source, target / name)


def what_caught(mutation: Mutation, copy: Path) -> list[str]:
    """Apply a change to the copy, run its tests, undo it; return the tests that failed.

    Raises
    ------
    ValueError
        If the text to replace does not stand in the file exactly once, or the tests did not run.
    """
    file = copy / mutation.file
    text = file.read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.file}: {text.count(mutation.old)} times {mutation.old!r}")
    tests = [name if "::" in name else f"{TEST}[{name}]" for name in mutation.caught_by]
    file.write_text(text.replace(mutation.old, mutation.new))
    try:
        process = multiprocessing.get_context("forkserver").Process(target=run_tests, args=(copy, tests))
        process.start()
        process.join()
    finally:
        file.write_text(text)
    said = (copy / "log.txt").read_text()
    if process.exitcode not in (0, 1) or "no tests ran" in said:
        raise ValueError(f"the tests did not run:\n{said[-4000:]}")
    return re.findall(r"^FAILED \S+?::([^\s]+)", said, re.MULTILINE)


def run_tests(copy: Path, tests: list[str]) -> None:
    """Run tests of a copy in this process, which forgets the code that it came with."""
    for name in [name for name in sys.modules if name.split(".")[0] in KEPT]:
        del sys.modules[name]
    sys.path.insert(0, str(copy))
    sys.dont_write_bytecode = True
    os.chdir(copy)
    with (copy / "log.txt").open("w") as log, redirect_stdout(log), redirect_stderr(log):
        code = pytest.main(["-q", "-rf", "--tb=no", "-p", "no:cacheprovider", *tests])
    sys.exit(int(code))


def main(parts: list[str]) -> int:
    """Try all changes, or those to files that have one of `parts` in their names."""
    unnoticed = 0
    multiprocessing.set_forkserver_preload(list(LIBRARIES))
    with tempfile.TemporaryDirectory() as folder:
        copy_code(Path(folder))
        print("| change | file | caught by |\n|---|---|---|")
        for mutation in mutations():
            if parts and not any(part in mutation.file for part in parts):
                continue
            caught = [re.sub(r".*\[(.*)\]", r"\1", name) for name in what_caught(mutation, Path(folder))]
            unnoticed += not caught
            print(f"| {mutation.about} | {mutation.file} | {', '.join(caught) or 'NOTHING'} |", flush=True)
    return int(unnoticed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
