"""Shows that the comparisons can fail: wrong changes to a copy of the code, each of which a test must notice.

``python -m tests.oracles.mutations [PART OF A FILE'S NAME ...]`` prints a table of what caught each, and exits 1 if a
change went unnoticed. The changes stand beside the comparisons, in their lists MUTATIONS.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.oracles.cases import Mutation
from tests.oracles.test_oracles import TOPICS

ROOT = Path(__file__).parents[2]
KEPT = ("harness", "methods", "protocols", "results", "tests", "pyproject.toml", "reidbench.py")
TEST = "tests/oracles/test_oracles.py::test_equals_public_code"


def mutations() -> list[Mutation]:
    """Return the wrong changes of all topics."""
    topics = [importlib.import_module(f"tests.oracles.{topic}") for topic in TOPICS]
    return [mutation for topic in topics for mutation in getattr(topic, "MUTATIONS", [])]


def copy_code(target: Path) -> None:
    """Copy what the tests need."""
    for name in KEPT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
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
        command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", "-p", "no:cacheprovider", *tests]
        environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    finally:
        file.write_text(text)
    if done.returncode not in (0, 1):
        raise ValueError(f"the tests did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return re.findall(r"^FAILED \S+?::([^\s]+)", done.stdout, re.MULTILINE)


def main(parts: list[str]) -> int:
    """Try all changes, or those to files that have one of `parts` in their names."""
    unnoticed = 0
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
