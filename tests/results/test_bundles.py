"""Bundles: equal bytes, the same answers as from directories, and what is refused of a foreign file."""

from __future__ import annotations

import io
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from results import compare, load_runs
from results.bundles import LIMITS, open_bundle, write_bundle
from results.schema import METRICS, ResultsError
from results.store import find_runs, read_run, write_frame
from tests.results.cases import finish, write_scored_run

METHODS = ("cluster-contrast", "dmic")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "runs"
    for method in METHODS:
        for seed in (0, 1):
            write_scored_run(folder, method, seed)
    return folder


def bundled(runs: Path, out: Path) -> Path:
    write_bundle({run.id: run.path for run in find_runs([runs]).runs}, out)
    return out


def rewritten(source: Path, out: Path, change: Callable[[dict[str, bytes]], None], **options: int) -> Path:
    """Write the members of a bundle again, changed."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(out, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out


def test_equal_runs_give_equal_bytes_whenever_and_wherever(runs: Path, tmp_path: Path) -> None:
    one = bundled(runs, tmp_path / "one.zip")
    shutil.copytree(runs, tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").rglob("*.csv"):
        path.touch()
    assert bundled(tmp_path / "elsewhere", tmp_path / "two.zip").read_bytes() == one.read_bytes()
    assert bundled(one, tmp_path / "three.zip").read_bytes() == one.read_bytes()
    with zipfile.ZipFile(one) as archive:
        assert {name.split("/")[1] for name in archive.namelist()} == set(LIMITS)


def test_a_bundle_stands_where_runs_do(runs: Path, tmp_path: Path) -> None:
    bundle = bundled(runs, tmp_path / "b.zip")
    pd.testing.assert_frame_equal(load_runs(bundle), load_runs(runs))
    pd.testing.assert_frame_equal(compare(bundle, *METHODS), compare(runs, *METHODS))
    one = find_runs([bundle]).runs[0]
    assert str(one.path) == f"{bundle}/{one.id}"
    with pytest.raises(ResultsError, match="is there twice"):
        find_runs([bundle, runs])


def test_rows_of_a_bundle_are_computed_anew(runs: Path, tmp_path: Path) -> None:
    """Digests that somebody wrote again vouch for nothing."""
    shutil.copytree(runs, tmp_path / "runs")
    path = find_runs([tmp_path / "runs"]).runs[0].path
    assert isinstance(path, Path)
    rows = read_run(path).metrics
    write_frame(rows.assign(value=rows["value"].clip(upper=99) + 1), path / "metrics.csv", METRICS)
    finish(path)
    bundle = tmp_path / "b.zip"
    write_bundle({read_run(path).id: path}, bundle)
    with pytest.raises(ResultsError, match=r"metrics\.csv says rank-1 .*, ranks\.npz gives"):
        find_runs([bundle])


def rename(old: str, new: str) -> Callable[[dict[str, bytes]], None]:
    """Move the first member whose name has `old` in it."""

    def change(members: dict[str, bytes]) -> None:
        name = next(name for name in members if old in name)
        members[name.replace(old, new)] = members.pop(name)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update({"../../etc/passwd": b"x"}), r"member '\.\./\.\./etc/passwd'"),
        (lambda m: m.update({"/etc/passwd": b"x"}), "member '/etc/passwd'"),
        (
            lambda m: m.update({"dmic-0-1/checkpoints/last.ckpt": b"x"}),
            "member 'dmic-0-1/checkpoints/last.ckpt'",
        ),
        (lambda m: m.update({"..\\x/COMPLETE": b"x"}), "member"),
        (lambda m: m.update({"notes.txt": b"x"}), "member 'notes.txt'"),
        (rename("ranks.npz", "ranks.npy"), "member"),
        (lambda m: m.pop("dmic-0-1/history.csv"), "lacks dmic-0-1/history.csv"),
        (lambda m: m.clear(), "holds no run"),
        (lambda m: m.update({"dmic-0-1/COMPLETE": b"x" * (2**20 + 1)}), "more than the 1048576 allowed"),
    ],
)
def test_foreign_members_are_refused(
    runs: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None], words: str
) -> None:
    bundle = rewritten(bundled(runs, tmp_path / "b.zip"), tmp_path / "foreign.zip", change)
    with pytest.raises(ResultsError, match=words):
        find_runs([bundle])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.zip", "foreign.zip"]


def test_what_would_unpack_to_more_is_refused(runs: Path, tmp_path: Path) -> None:
    good = bundled(runs, tmp_path / "b.zip")
    squeezed = rewritten(good, tmp_path / "s.zip", lambda m: None, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ResultsError, match="is compressed"):
        find_runs([squeezed])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a name stands twice
        with zipfile.ZipFile(good, "a") as archive:
            archive.writestr("dmic-0-1/COMPLETE", b"")
    with pytest.raises(ResultsError, match="stands twice"):
        find_runs([good])


def test_ranks_that_promise_more_than_they_hold_are_refused(runs: Path, tmp_path: Path) -> None:
    """A header of some bytes must not make the reader ask for terabytes."""
    path = write_scored_run(tmp_path / "runs", "dmic")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (2**42,)})
    with zipfile.ZipFile(path / "ranks.npz", "w") as archive:
        for name in (
            "query_identity",
            "query_camera",
            "average_precision",
            "hits",
            "hit_offsets",
            "first_rank",
        ):
            archive.writestr(f"last/regdb/visible-to-thermal/1/{name}.npy", header.getvalue())
    finish(path)
    bundle = tmp_path / "b.zip"
    write_bundle({"dmic-0-1": path}, bundle)
    with pytest.raises(ResultsError, match=r"ranks\.npz is not a readable array file: its header promises"):
        find_runs([bundle])


def test_damaged_files_and_files_under_another_name_are_refused(runs: Path, tmp_path: Path) -> None:
    good = bundled(runs, tmp_path / "b.zip")
    raw = bytearray(good.read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "flipped.zip").write_bytes(raw)
    with pytest.raises(ResultsError, match=r"flipped\.zip"):
        find_runs([tmp_path / "flipped.zip"])
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(ResultsError, match="not a readable bundle"):
        open_bundle(tmp_path / "text.zip")
    path = find_runs([runs]).runs[0].path
    write_bundle({"another": path}, tmp_path / "named.zip")
    with pytest.raises(ResultsError, match="its manifest is that of run"):
        find_runs([tmp_path / "named.zip"])
    with pytest.raises(ResultsError, match="is not the id of a run"):
        write_bundle({"../up": path}, tmp_path / "up.zip")
    assert not (tmp_path / "up.zip").exists()
