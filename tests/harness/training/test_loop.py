"""Runs from end to end, in real processes: resume after kill -9, re-use, locks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock

from harness.errors import HarnessError
from harness.runs import precision
from harness.runs.repeat import plan_from_manifest
from harness.runs.task import Execution
from harness.tools import verify
from harness.training.checkpoint import load_checkpoint, save_checkpoint
from results.checksums import checksums
from tests.conftest import process_environment, tiny_settings

pytestmark = pytest.mark.slow
Command = Callable[..., subprocess.CompletedProcess[str]]

SETTINGS = tiny_settings(
    "epochs_intra=2",
    "epochs_joint=3",
    "iterations=4",
    "labels_per_batch=3",
    "instances=2",
    "k1=8",
    "k2_start=2",
    "k2_end=3",
    "joint_k2=4",
    "eps=0.55",
    "eps_low=0.5",
    "turning_epoch=1",
    "min_samples=2",
)


def command(root: Path, out: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "harness", "run", "dmic", "--protocol", "regdb", "--trials", "1"),
        *("--data", str(root), "--out", str(out), "--device", "cpu", *SETTINGS),
    ]


def run(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(root, out),
        cwd=out.parent,
        env=process_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def run_folder(out: Path) -> Path:
    (manifest,) = out.glob("*/*/*/manifest.json")
    return manifest.parent


@pytest.fixture(scope="module")
def undisturbed(tiny_regdb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "runs"
    done = run(tiny_regdb, out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute on one thread, as :func:`process_environment` has it for other processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stop_in_the_middle(root: Path, out: Path, epochs_done: int, how: signal.Signals) -> tuple[int, str]:
    """Start a run and stop it while the epoch after `epochs_done` is under way; return its code and message."""
    process = subprocess.Popen(
        command(root, out),
        cwd=out.parent,
        env=process_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # what a shell starts in the background ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        histories = list(out.glob("*/*/*/history.csv"))
        if (
            histories
            and len(pd.read_csv(histories[0])) >= epochs_done
            and histories[0].with_name("checkpoints").joinpath("last.ckpt").exists()
        ):
            time.sleep(0.1)
            os.kill(process.pid, how)
            break
        time.sleep(0.01)
    _, said = process.communicate(timeout=120)
    return process.returncode, said


@pytest.mark.parametrize(("epochs_done", "how"), [(1, signal.SIGUSR2), (3, signal.SIGKILL)])
def test_stopped_run_resumes_to_the_same_bytes(
    undisturbed: Path,
    tiny_regdb: Path,
    tmp_path: Path,
    reidbench: Command,
    one_thread: None,
    epochs_done: int,
    how: signal.Signals,
) -> None:
    out = tmp_path / "runs"
    code, said = stop_in_the_middle(tiny_regdb, out, epochs_done, how)
    assert code == (75 if how == signal.SIGUSR2 else -how), "the run ended before it could be stopped"
    folder = run_folder(out)
    if how == signal.SIGUSR2:
        assert "Traceback" not in said
        assert "stopped by SIGUSR2" in said
        assert "goes on from there" in said
        assert json.loads((folder / "manifest.json").read_text())["status"] == "stopped"
        assert not [path for path in folder.rglob("*") if path.name.startswith((".", "holder"))]
    assert not (folder / "COMPLETE").exists()
    again = reidbench(*command(tiny_regdb, out)[3:])
    assert again.returncode == 0, again.stderr
    assert "resuming" in again.stderr
    expected, found = run_folder(undisturbed), run_folder(out)
    assert found.name == expected.name
    for name in ("metrics.csv", "history.csv", "checkpoints/last.ckpt", "ranks.npz"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name


def test_finished_run_answers_from_disk(undisturbed: Path, tiny_regdb: Path, reidbench: Command) -> None:
    before = (run_folder(undisturbed) / "manifest.json").stat().st_mtime_ns
    again = reidbench(*command(tiny_regdb, undisturbed)[3:])
    assert again.returncode == 0
    assert "is finished" in again.stderr
    assert (run_folder(undisturbed) / "manifest.json").stat().st_mtime_ns == before


def test_a_new_version_of_a_protocol_scores_the_last_epoch_again(
    undisturbed: Path, tiny_regdb: Path, tmp_path: Path, reidbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "runs"
    shutil.copytree(undisturbed, out)
    folder = run_folder(out)
    before = pd.read_csv(folder / "metrics.csv")
    epochs = (folder / "history.csv").read_bytes()
    monkeypatch.setattr("protocols.regdb.RegDB.version", "next")
    for words in ("is scored again", "is finished"):
        again = reidbench(*command(tiny_regdb, out)[3:])
        assert again.returncode == 0, again.stderr
        assert words in again.stderr
    after = pd.read_csv(folder / "metrics.csv")
    assert set(after["protocol_version"]) == {"next"}
    assert set(after["checkpoint"]) == {"last"}, "the best epoch was scored by other rules, and is not kept"
    assert after["value"].tolist() == before.loc[before["checkpoint"] == "last", "value"].tolist()
    assert (folder / "history.csv").read_bytes() == epochs
    refused = reidbench("run", "--from", run_folder(undisturbed) / "manifest.json", "--out", out)
    assert refused.returncode == 2
    assert "of regdb, this reidbench has next" in refused.stderr


def test_second_process_says_who_holds_the_run(
    undisturbed: Path, tiny_regdb: Path, tmp_path: Path, reidbench: Command
) -> None:
    out = tmp_path / "runs"
    shutil.copytree(undisturbed, out)
    folder = run_folder(out)
    (folder / "COMPLETE").unlink()
    (folder / "holder.json").write_text(json.dumps({"pid": 4321, "host": "elsewhere"}))
    with FileLock(folder / "run.lock"):
        second = reidbench(*command(tiny_regdb, out)[3:])
    assert second.returncode == 3
    assert "4321" in second.stderr
    assert "elsewhere" in second.stderr


def test_run_from_manifest_is_the_same_run(undisturbed: Path, tmp_path: Path, reidbench: Command) -> None:
    """It plans the same run; that the run gives the same bytes is for `test_verify_repeats_a_run`."""
    folder = run_folder(undisturbed)
    for data in ((), ("--data", json.loads((folder / "manifest.json").read_text())["data_root"])):
        done = reidbench("run", "--from", folder / "manifest.json", "--dry-run", *data)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(folder.name)
        assert "to do" in done.stdout
    answered = reidbench("run", "--from", folder / "manifest.json", "--out", undisturbed)
    assert answered.returncode == 0, answered.stderr
    assert "is finished" in answered.stderr


def test_manifest_of_another_version_is_refused(
    undisturbed: Path, tmp_path: Path, reidbench: Command
) -> None:
    content = json.loads((run_folder(undisturbed) / "manifest.json").read_text())
    content["manifest_version"] = 99
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    refused = reidbench("run", "--from", tmp_path / "manifest.json")
    assert refused.returncode == 2
    assert "99" in refused.stderr
    assert "Traceback" not in refused.stderr


OLD_CONFIG = {
    **{
        "learning_rate": 1.5e-4,
        "weight_decay": 5e-4,
        "lr_schedule": "cosine",
        "lr_step": 20,
        "lr_gamma": 0.1,
    },
    **{"iterations": 6, "labels_per_batch": 8, "instances": 4, "temperature": 0.05, "min_samples": 4},
    **{"non_local": False, "non_local_width": 1, "bn_chunks": 1, "epochs_intra": 4, "epochs_joint": 6},
    **{"stage_init": "last", "expansion": "mie", "intra_k1": 12, "joint_k1": 20, "joint_k2": 8},
    **{"eps_schedule": "exponential", "eps_high": 0.55, "eps_low": 0.4, "turning_epoch": 3},
    **{"k2_schedule": "rising", "k2_start": 3, "k2_end": 4, "instance_memory": True, "memory_init": "random"},
    **{"memory_update": "random", "memory_momentum": 0.0, "instance_reduce": "sum", "joint_weight": 0.7},
}
"""What `dmic` was configured by before its text was read."""


@pytest.mark.parametrize("version", [1, 2])
def test_an_old_manifest_of_dmic_is_refused_with_the_reason(
    undisturbed: Path, tmp_path: Path, reidbench: Command, version: int
) -> None:
    """As it was written then: former settings, no training version, another version of manifests."""
    content = json.loads((run_folder(undisturbed) / "manifest.json").read_text())
    content["manifest_version"] = version
    content["spec"] |= {"config": OLD_CONFIG, "sources": "0" * 64, "label": "dmic:+hmcl"}
    if version == 1:
        del content["spec"]["training_version"]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    refused = reidbench("run", "--from", tmp_path / "manifest.json")
    assert refused.returncode == 2
    assert "dmic has changed since" in refused.stderr
    said = " ".join(refused.stderr.split())
    for words in (
        "intra_k1 is no more; use k1",
        "joint_k1 is no more; use k1",
        "eps_high is no more; use eps (pi2)",
        "instance_memory is no more; use instance_terms",
        "memory_init is no more; nothing stands for it",
        "joint_weight is no more; use instance_weight (phi_1) and cluster_weight (phi_2)",
    ):
        assert words in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("entry", "value", "word"),
    [
        ("engine", {"widht": 16}, "widht"),
        ("config", {"iterations": "many"}, "iterations"),
        ("config", {"intra_k1": 6}, "dmic has changed since: intra_k1 is no more; use k1"),
        ("config", {"eps_high": 0.6}, "dmic has changed since: eps_high is no more; use eps (pi2)"),
        ("label", "dmic:+hmcl", "dmic:+hmcl is no more; use vc"),
        ("weights", "another digest", "other weights"),
        ("sources", "another digest", "source of dmic has changed"),
        ("data_digest", "another digest", "other data"),
        ("training_version", 0, "version 0 of the harness's training"),
        ("data", "real", "its data are called real"),
        ("label", "our-new-method", "is not that of dmic"),
        ("label", "dmic:better", "dmic has no such variant"),
        ("preset", "huge", "there is no preset 'huge'"),
        ("seed", 7, "its specification is that of run"),
    ],
)
def test_a_manifest_that_no_longer_holds_is_refused(
    undisturbed: Path, tmp_path: Path, reidbench: Command, entry: str, value: object, word: str
) -> None:
    content = json.loads((run_folder(undisturbed) / "manifest.json").read_text())
    old = content["spec"][entry]
    content["spec"][entry] = {**old, **value} if isinstance(value, dict) else value
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    refused = reidbench("run", "--from", tmp_path / "manifest.json")
    assert refused.returncode == 2
    assert word in refused.stderr
    assert not (tmp_path / "runs").exists()


def test_a_manifest_whose_precision_comes_out_wrong_here_is_refused(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads((run_folder(undisturbed) / "manifest.json").read_text())
    content["spec"]["engine"]["precision"] = "bf16"
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    monkeypatch.setattr(precision, "right_on_cpu", lambda *network: False)
    with pytest.raises(HarnessError, match="bfloat16 convolutions come out wrong"):
        plan_from_manifest(tmp_path / "manifest.json", Execution(device="cpu"), print)


def test_options_beside_a_manifest_are_refused(undisturbed: Path, reidbench: Command) -> None:
    manifest = run_folder(undisturbed) / "manifest.json"
    refused = reidbench("run", "dmic", "--from", manifest, "--seed", 1)
    assert refused.returncode == 2
    assert "leave out METHOD, --seed" in refused.stderr


def test_weights_of_another_split_are_refused(
    undisturbed: Path, tiny_regdb: Path, tmp_path: Path, reidbench: Command
) -> None:
    out = tmp_path / "runs"
    shutil.copytree(undisturbed, out)
    folder = run_folder(out)
    (folder / "COMPLETE").unlink()
    last = folder / "checkpoints" / "last.ckpt"
    save_checkpoint(last, load_checkpoint(last) | {"split": 2})
    refused = reidbench(*command(tiny_regdb, out)[3:])
    assert refused.returncode == 2
    assert "never tested on another" in refused.stderr


def rpnr_from(file: Path, root: Path, *sets: str) -> list[str]:
    """RPNR's stage II alone, one iteration of it, from a file; it leaves the weights as they are."""
    sets = ("epochs_cross=1", "iterations=1", "learning_rate=1e-12", "k1=8", "k2=2", "min_samples=2", *sets)
    sizes = tiny_settings("labels_per_batch=3", "instances=2", f"stage_weights={file}", *sets)
    return [
        "run",
        "rpnr",
        "--protocol",
        "regdb",
        "--trials",
        "1",
        "--data",
        str(root),
        "--device",
        "cpu",
        *sizes,
    ]


def test_a_stage_starts_from_a_file(
    undisturbed: Path, tiny_regdb: Path, tmp_path: Path, reidbench: Command
) -> None:
    """From the checkpoint of a run, whose digest is part of the new run's identity."""
    file, out = tmp_path / "last.ckpt", tmp_path / "runs"
    shutil.copy(run_folder(undisturbed) / "checkpoints" / "last.ckpt", file)
    done = reidbench(*rpnr_from(file, tiny_regdb, "non_local=false"), "--out", out)
    assert done.returncode == 0, done.stderr
    folder = run_folder(out)
    assert set(pd.read_csv(folder / "history.csv").stage) == {"cross"}
    assert set(pd.read_csv(folder / "metrics.csv").weights) == {"none, then last.ckpt"}
    first, after = (
        load_checkpoint(path)["modules"]["backbone"] for path in (file, folder / "checkpoints" / "last.ckpt")
    )
    kernels = [name for name, tensor in first.items() if tensor.ndim == 4]
    assert len(kernels) > 20
    for name in kernels:
        torch.testing.assert_close(after[name], first[name], rtol=0, atol=1e-6)

    changed = load_checkpoint(file)
    changed["modules"]["backbone"][kernels[0]] += 1
    save_checkpoint(file, changed)
    refused = reidbench("run", "--from", folder / "manifest.json")
    assert refused.returncode == 2
    assert "weights=none, then last.ckpt are none, then" in refused.stderr


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda file: torch.save({"conv1.weight": torch.zeros(2)}, file), "foreign: conv1.weight; "),
        (lambda file: None, "stage_weights={file}: no such file; expected the checkpoint of a run"),
        (lambda file: file.write_text("no weights"), "stage_weights={file}: not a state dict of tensors"),
    ],
)
def test_a_file_that_no_stage_can_start_from_is_refused(
    tiny_regdb: Path, tmp_path: Path, reidbench: Command, write: Callable[[Path], object], words: str
) -> None:
    file = tmp_path / "mine.pth"
    write(file)
    refused = reidbench(*rpnr_from(file, tiny_regdb))
    assert refused.returncode == 2
    assert words.format(file=file) in refused.stderr


def test_verify_repeats_a_run(undisturbed: Path, reidbench: Command, one_thread: None) -> None:
    """In this process, whatever it did before; the run was made in another."""
    done = reidbench("verify", run_folder(undisturbed), "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "are equal, byte for byte" in done.stdout


def test_verify_names_the_first_difference(
    undisturbed: Path, tmp_path: Path, reidbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, folder = run_folder(undisturbed), tmp_path / "copy"
    shutil.copytree(true, folder)
    # the repetition itself is the other test's
    monkeypatch.setattr(verify, "execute", lambda task, _: SimpleNamespace(path=true))

    ranks = dict(verify.arrays(true / "ranks.npz"))
    name = min(ranks)
    np.savez(folder / "ranks.npz", **(ranks | {name: ranks[name] + 1}))
    done = reidbench("verify", folder)
    assert done.returncode == 1
    assert "ranks.npz: it has changed since the run finished" in done.stdout
    (folder / "COMPLETE").write_text(checksums(folder))
    done = reidbench("verify", folder)
    assert done.returncode == 1
    assert f"ranks.npz: array {name}" in done.stdout

    history = pd.read_csv(folder / "history.csv", dtype=str)
    loss = next(name for name in history if name.startswith("loss_"))
    history.loc[1, loss] = "0.5"
    history.to_csv(folder / "history.csv", index=False, lineterminator="\n")
    (folder / "COMPLETE").write_text(checksums(folder))
    done = reidbench("verify", folder)
    assert done.returncode == 1
    assert "history.csv: epoch 1," in done.stdout
    assert f"column {loss}: 0.5 then" in done.stdout

    (folder / "COMPLETE").unlink()
    unfinished = reidbench("verify", folder)
    assert unfinished.returncode == 2
    assert "COMPLETE" in unfinished.stderr
