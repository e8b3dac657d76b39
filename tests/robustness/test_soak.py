"""Three runs killed at random moments; ``make soak`` does fifty."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import process_environment


@pytest.mark.slow
@pytest.mark.soak
def test_three_killed_runs_end_in_the_bytes_of_undisturbed_ones() -> None:
    """In a process of its own, whose threads have not begun before it forks."""
    words = [sys.executable, "-m", "tests.robustness.soak", "--runs", "3", "--seed", "1"]
    here = Path(__file__).parents[2]
    done = subprocess.run(
        words, cwd=here, env=process_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 end in the bytes of an undisturbed run, 0 do not" in done.stdout
