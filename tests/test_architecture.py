"""Who may import whom, and what a stranger may find in the repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_import_directions() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_unpickles() -> None:
    for package in ("harness", "methods", "protocols", "results"):
        for file in (ROOT / package).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            assert "pickle" not in text.replace("allow_pickle=False", "").replace("unpickle", ""), file
            assert text.count("torch.load(") == text.count("weights_only=True"), file
            assert text.count("np.load(") == text.count("allow_pickle=False"), file
