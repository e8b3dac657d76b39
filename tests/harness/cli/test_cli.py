"""The command line: help without torch, and what a person sees after a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import process_environment, tiny_settings

Command = Callable[..., subprocess.CompletedProcess[str]]


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert a clear refusal: exit code 2, every word in the message, no traceback."""
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; import harness.cli.app as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=process_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "data" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        (),
        *(
            (name,)
            for name in (
                "run",
                "runs",
                "check-method",
                "verify",
                "list",
                "show",
                "score",
                "cluster",
                "variants",
            )
        ),
        *(
            (name,)
            for name in (
                "time",
                "table",
                "compare",
                "report",
                "bundle",
                "diff",
                "leaderboard",
                "evaluate",
                "extract",
                "figure",
                "doctor",
            )
        ),
        ("data", "synth"),
        ("data", "check"),
        ("data", "export"),
        ("data", "fingerprint"),
    ],
)
def test_every_command_has_help_with_an_example(reidbench: Command, words: tuple[str, ...]) -> None:
    done = reidbench(*words, "--help")
    assert done.returncode == 0
    assert not words or "Example:" in done.stdout


def test_no_command_lacks_a_test_of_its_help() -> None:
    from harness.cli.app import app, data_app

    names = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    assert names == {
        *("run", "runs", "check-method", "cite", "verify", "list", "show", "score", "cluster", "variants"),
        *("time", "table", "compare", "report", "bundle", "diff", "leaderboard", "evaluate", "extract"),
        *("figure", "doctor"),
    }
    assert {c.name for c in data_app.registered_commands} == {"synth", "check", "export", "fingerprint"}


def complete(words: str) -> set[str]:
    """Return what a shell offers for the last of `words`, by a process that must not import torch."""
    code = (
        "import sys\n"
        "from harness.cli.app import app\n"
        "try: app(prog_name='reidbench')\n"
        "finally: assert 'torch' not in sys.modules"
    )
    asked = {
        "_REIDBENCH_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=process_environment() | asked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Error" not in done.stderr, done.stderr
    return set(done.stdout.split())


def test_names_complete_without_torch() -> None:
    assert {"dmic"} == complete("reidbench run d")
    assert {"sysu-all", "sysu-all-official"} == complete("reidbench run dmic --protocol sysu-a")
    assert {"paper", "paper-large"} == complete("reidbench run dmic --preset p")
    assert {"pca", "pgm"} == complete("reidbench show p")
    assert {"regdb"} == complete("reidbench show regd")
    assert {"joint_k2=", "joint_instance=", "joint_step="} == complete("reidbench run dmic --set joint_")
    assert {"precision="} == complete("reidbench run dmic --set prec")


def test_variants_and_settings_that_complete_are_those_there_are() -> None:
    from harness.registry import load_method, methods
    from harness.runs.configuration import variants_of
    from harness.tools.stated import stated_names

    for name in methods():
        found, method = stated_names(name), load_method(name)
        assert list(found.variants) == variants_of(method), name
        assert set(found.settings) == set(method.Config.model_fields), name


def test_a_protocol_is_shown_in_words_with_its_counts(reidbench: Command, tiny_regdb: Path) -> None:
    shown = reidbench("show", "regdb", "--data", tiny_regdb)
    assert shown.returncode == 0, shown.stderr
    for words in (
        "version 1",
        "ten trials",
        "nothing is removed",
        "8240 images of 412 people",
        "closed division",
    ):
        assert words in shown.stdout
    assert shown.stdout.count("thermal-to-visible") >= 10
    assert "sysu-indoor" in reidbench("show", "sysu").stdout


def test_unknown_names_are_answered_with_the_nearest(reidbench: Command, tiny_regdb: Path) -> None:
    refused(reidbench("run", "dmik", "--protocol", "regdb", "--data", tiny_regdb), "dmik", "dmic")
    refused(reidbench("run", "dmic", "--protocol", "regbd", "--data", tiny_regdb), "regbd", "regdb")
    refused(reidbench("run", "dmic:mei", "--protocol", "regdb", "--data", tiny_regdb), "mie")
    refused(
        reidbench("run", "dmic", "--protocol", "regdb", "--data", tiny_regdb, "--preset", "dmeo"),
        "dmeo",
        "demo",
    )
    refused(
        reidbench("run", "dmic", "--protocol", "regdb", "--data", tiny_regdb, "--set", "joint_k=3"),
        "joint_k",
        "joint_k2",
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("k1=many", ("k1", "many")),
        ("joint_k1=40", ("joint_k1 is no more", "use k1")),
        ("eps=1.5", ("eps", "1.5")),
        ("eps_high=0.5", ("eps_high is no more", "use eps (pi2)")),
        ("joint_k2=99", ("joint_k2",)),
        ("iterations", ("iterations", "key=value")),
        ("height=-1", ("height",)),
    ],
)
def test_wrong_values_are_named(
    reidbench: Command, tiny_regdb: Path, value: str, words: tuple[str, ...]
) -> None:
    refused(reidbench("run", "dmic", "--protocol", "regdb", "--data", tiny_regdb, "--set", value), *words)


def test_a_wrong_value_is_told_before_data_are_made(reidbench: Command, tmp_path: Path) -> None:
    words = ("run", "dmic", "--protocol", "regdb", "--data", "synthetic")
    refused(reidbench(*words, "--set", "joint_k=3"), "joint_k2")
    refused(reidbench(*words, "--trials", "11"), "--trials")
    assert list(tmp_path.iterdir()) == []


def test_missing_and_wrong_data_roots(reidbench: Command, tmp_path: Path, tiny_sysu: Path) -> None:
    refused(reidbench("run", "dmic", "--protocol", "regdb"), "--data")
    refused(reidbench("run", "dmic", "--protocol", "regdb", "--data", tmp_path / "nowhere"), "nowhere")
    (tmp_path / "empty").mkdir()
    refused(reidbench("run", "dmic", "--protocol", "regdb", "--data", tmp_path / "empty"), "idx", "Visible")
    refused(reidbench("run", "dmic", "--protocol", "regdb", "--data", tiny_sysu), "sysu-mm01", "regdb")


def test_trials_out_of_range(reidbench: Command, tiny_regdb: Path, tiny_sysu: Path) -> None:
    refused(
        reidbench("run", "dmic", "--protocol", "regdb", "--data", tiny_regdb, "--trials", "0-3"), "--trials"
    )
    refused(
        reidbench("run", "dmic", "--protocol", "regdb", "--data", tiny_regdb, "--trials", "x"), "--trials"
    )
    refused(reidbench("run", "dmic", "--protocol", "sysu", "--data", tiny_sysu, "--trials", "1"), "--trials")


def test_k1_larger_than_the_data(reidbench: Command, tiny_regdb: Path, tmp_path: Path) -> None:
    done = reidbench(
        *("run", "dmic", "--protocol", "regdb", "--data", tiny_regdb, "--trials", "1", "--device", "cpu"),
        *tiny_settings("k1=500"),
    )
    refused(done, "k1", "500")
    assert not list(tmp_path.glob("runs/*/*/*/COMPLETE"))


def test_all_noise_ends_with_the_cure(reidbench: Command, tiny_regdb: Path, tmp_path: Path) -> None:
    done = reidbench(
        *(
            "run",
            "cluster-contrast",
            "--protocol",
            "regdb",
            "--data",
            tiny_regdb,
            "--trials",
            "1",
            "--device",
            "cpu",
        ),
        *tiny_settings("eps=0.0001", "k1=6", "k2=2", "epochs=4", "iterations=2"),
    )
    refused(done, "eps", "k1", "3 epochs")
    manifest = json.loads(next(tmp_path.glob("runs/*/*/*/manifest.json")).read_text())
    assert manifest["status"] == "stopped"


def test_cuda_asked_for_and_absent(reidbench: Command, tiny_regdb: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    done = reidbench(
        *(
            "run",
            "source-only",
            "--protocol",
            "regdb",
            "--data",
            tiny_regdb,
            "--trials",
            "1",
            "--device",
            "cuda",
        ),
        *tiny_settings(),
    )
    refused(done, "CUDA", "--device cpu")
    assert not (tmp_path / "runs").exists()


def test_output_that_cannot_be_written(reidbench: Command, tiny_regdb: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = reidbench(
        *("run", "source-only", "--protocol", "regdb", "--data", tiny_regdb, "--trials", "1"),
        *("--out", tmp_path / "file" / "runs", *tiny_settings()),
    )
    refused(done, "file")


def test_disk_full_is_explained_and_nothing_is_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from harness.errors import format_error
    from harness.runs.files import write_atomic

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "history.csv")

    (tmp_path / "history.csv").write_bytes(b"old")
    monkeypatch.setattr("results.files.os.fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        write_atomic(tmp_path / "history.csv", b"new")
    assert (tmp_path / "history.csv").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "history.csv"]
    text, code = format_error(caught.value)
    assert code == 2
    assert str(tmp_path / "history.csv") in text
    assert "free some space" in text


def test_a_disk_that_fills_up_in_a_run_ends_it_and_with_space_it_goes_on(
    reidbench: Command, tiny_regdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    words = [
        *("run", "source-only", "--protocol", "regdb", "--data", tiny_regdb, "--trials", "1"),
        *("--device", "cpu", *tiny_settings()),
    ]
    true = os.fsync

    def fsync(handle: int) -> None:
        if any(tmp_path.glob("runs/*/*/*/ranks.npz")):
            raise OSError(errno.ENOSPC, "No space left on device")
        true(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        refused(reidbench(*words), "No space left on device")
    (folder,) = (path.parent for path in tmp_path.glob("runs/*/*/*/manifest.json"))
    assert {path.name for path in folder.iterdir()} == {
        *("checkpoints", "manifest.json", "ranks.npz", "run.lock", "log.txt")
    }
    assert reidbench(*words).returncode == 0
    assert (folder / "COMPLETE").exists()


def test_an_image_that_is_mended_lets_the_run_go_on(
    reidbench: Command, tiny_regdb: Path, tmp_path: Path
) -> None:
    import shutil

    root = shutil.copytree(tiny_regdb, tmp_path / "twin")
    image = next((root / "Visible").rglob("*.bmp"))
    whole = image.read_bytes()
    words = [
        *("run", "source-only", "--protocol", "regdb", "--data", root, "--trials", "1"),
        *("--device", "cpu", *tiny_settings()),
    ]
    for length in (0, 10, 40, len(whole) // 2):
        image.write_bytes(whole[:length])
        refused(reidbench(*words), str(image))
    assert not list(tmp_path.rglob("metrics.csv"))
    image.write_bytes(whole)
    assert reidbench(*words).returncode == 0


def test_a_split_file_that_is_malformed_is_named_with_its_line(
    reidbench: Command, tiny_regdb: Path, tmp_path: Path
) -> None:
    import shutil

    root = shutil.copytree(tiny_regdb, tmp_path / "twin")
    with (root / "idx" / "train_visible_1.txt").open("a") as file:
        file.write("no label\n")
    done = reidbench("run", "source-only", "--protocol", "regdb", "--data", root, "--trials", "1")
    refused(done, "train_visible_1.txt, line ")


def test_a_loss_that_is_not_finite_ends_the_run(reidbench: Command, tiny_regdb: Path, tmp_path: Path) -> None:
    done = reidbench(
        *("run", "cluster-contrast", "--protocol", "regdb", "--data", tiny_regdb, "--trials", "1"),
        *("--device", "cpu"),
        *tiny_settings("eps=0.6", "k1=6", "k2=2", "min_samples=2", "epochs=3", "iterations=3"),
        *("--set", "learning_rate=1e30", "--set", "labels_per_batch=3", "--set", "instances=2"),
    )
    refused(done, "learning_rate")
    assert not list(tmp_path.rglob("metrics.csv"))


def test_dry_run_names_runs_and_work_and_writes_nothing(
    reidbench: Command, tiny_regdb: Path, tmp_path: Path
) -> None:
    done = reidbench(
        *(
            "run",
            "dmic",
            "--protocol",
            "regdb",
            "--data",
            tiny_regdb,
            "--trials",
            "1-2",
            "--seed",
            0,
            "--seed",
            1,
        ),
        *("--dry-run", *tiny_settings("epochs_intra=2", "epochs_joint=3", "iterations=4")),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("20 iterations") == 4
    assert not (tmp_path / "runs").exists()


def test_score_writes_full_digits(reidbench: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = np.arange(12) % 4
    np.savez(
        tmp_path / "result.npz",
        distance=rng.random((12, 12)),
        query_ids=ids,
        gallery_ids=ids,
        query_cams=np.ones(12, dtype=int),
        gallery_cams=np.full(12, 2),
    )
    done = reidbench("score", "result.npz", "--protocol", "regdb", "--out", "metrics.csv")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0] == "metric,value"
    assert {line.split(",")[0] for line in lines[1:]} >= {
        "rank-1",
        "rank-5",
        "rank-10",
        "rank-20",
        "mAP",
        "mINP",
    }


def test_score_refuses_nan(reidbench: Command, tmp_path: Path) -> None:
    ids = np.arange(4)
    np.savez(
        tmp_path / "result.npz",
        distance=np.full((4, 4), np.nan),
        query_ids=ids,
        gallery_ids=ids,
        query_cams=ids * 0 + 1,
        gallery_cams=ids * 0 + 2,
    )
    refused(reidbench("score", "result.npz", "--protocol", "regdb"), "NaN")


def test_list_and_show(reidbench: Command) -> None:
    listed = reidbench("list")
    assert listed.returncode == 0, listed.stderr
    for name in ("dmic", "cluster-contrast", "source-only", "regdb", "sysu-all", "sysu-indoor"):
        assert name in listed.stdout
    shown = reidbench("show", "dmic", "--schedule")
    assert shown.returncode == 0, shown.stderr
    for word in ("reconstructed", "published code", "eps_low", "regdb"):
        assert word in shown.stdout
