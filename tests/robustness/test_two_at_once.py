"""Two processes at one resource: both end well, or one waits, or is told who was faster."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.robustness.faults import OPERATIONS, Said, undisturbed

REFUSED = {"twin": "another process has filled made meanwhile|made exists and is not an empty folder"}
"""What the slower one is told where only one can be right."""


def in_child(name: str, said: Path) -> int:
    """Perform an operation in a process of its own; return its number."""
    pid = os.fork()
    if pid:
        return pid
    result = Said(1, "it ended in an unknown way")
    try:
        result = OPERATIONS[name].perform()
    except BaseException as error:
        result = Said(1, repr(error))
    finally:
        said.write_text(f"{result.code} {result.text}")
        os._exit(0)
    return 0


@pytest.mark.parametrize("name", ["twin", "lists", "source weights", "bundle", "report"])
def test_both_end_well_or_one_is_told(name: str, tmp_path: Path) -> None:
    with undisturbed(OPERATIONS[name]) as tried:
        folder = Path(shutil.copytree(tried.folder, tmp_path / "both"))
        back = Path.cwd()
        os.chdir(folder)
        try:
            children = [in_child(name, tmp_path / f"said{number}") for number in range(2)]
            for child in children:
                os.waitpid(child, 0)
            left = OPERATIONS[name].stays()
        finally:
            os.chdir(back)
    assert left == tried.left
    for number in range(2):
        code, _, text = (tmp_path / f"said{number}").read_text().partition(" ")
        assert code == "0" or re.search(REFUSED.get(name, "nothing is refused"), text), text
