"""What commands do not import, which is most of what their start takes; the lightest ones first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.conftest import process_environment
from tests.results.cases import write_scored_run

PROGRAM = """
import json, sys
from harness.cli.app import main
for words, unwanted in json.loads(sys.argv[1]):
    if words[0] == "sweep":  # what plans, and what runs, is elsewhere
        from harness.cli import apart
        from harness.sweep import driver
        apart.apart, driver.drive = (lambda *_: ("plan", [], False)), (lambda *_: 0)
    try:
        main(words)
    except SystemExit as end:
        assert not end.code, words
    if found := {one for one in unwanted if one in sys.modules}:
        sys.exit(f"{' '.join(words)} has imported {', '.join(found)}")
"""
COMPILER = ("torch._dynamo", "torch._inductor", "torchvision")
TRAINING = ("torch", "torchvision", "numba", "sklearn")
SHOWING = ("matplotlib", "jinja2", "scipy")
STATISTICS = ("scipy.stats", "scipy.optimize")


def test_commands_import_what_they_need(tmp_path: Path) -> None:
    for method in ("dmic", "adca"):
        write_scored_run(tmp_path / "runs", method)
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(4, 16)), 8, axis=0) + 0.1 * rng.normal(size=(32, 16))
    features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    np.savez(tmp_path / "features.npz", features=features, identity=np.arange(32) // 8)
    labels = {"query_ids": np.arange(4), "gallery_ids": np.arange(4)}
    np.savez(tmp_path / "result.npz", distance=1 - np.eye(4), **labels)
    light = (*TRAINING, *SHOWING, "pandas", "numpy")
    commands = [
        (["--help"], light),
        (["list"], light),
        (["runs"], light),
        (["cite", "runs"], light),
        (["sweep", "run", "--methods", "dmic", "--protocol", "regdb"], (*TRAINING, *SHOWING, "pandas")),
        (["show", "regdb"], (*TRAINING, *SHOWING, "pandas")),
        (["table", "runs"], (*TRAINING, *SHOWING)),
        (["compare", "dmic", "adca"], (*TRAINING, "matplotlib", *STATISTICS)),
        (["score", "result.npz", "--protocol", "regdb"], ("torch", "sklearn", "matplotlib", *STATISTICS)),
        (["show", "dmic"], ("sklearn", "matplotlib", "methods.clustering.kernels.numba_kernels", *COMPILER)),
    ]
    cluster = [(["cluster", "features.npz"], ("pandas", "sklearn", "matplotlib", *STATISTICS, *COMPILER))]
    for one_process in (commands, cluster):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(one_process)],
            cwd=tmp_path,
            env=process_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
