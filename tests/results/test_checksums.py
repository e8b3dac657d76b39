"""The digests of a finished run's files, and files written whole."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from results.checksums import COMPLETE, ChecksumWarning, changed_files, checksums, read_checksums
from results.files import clear_leftovers, whole, write_whole
from results.schema import METRICS, ResultsError
from results.store import find_runs, read_run, write_frame
from tests.results.cases import finish, regdb_rows, write_run


def flip(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("name", ["manifest.json", "metrics.csv", "history.csv", "profile.csv"])
def test_a_flipped_bit_in_a_table_is_found_before_it_is_shown(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path, regdb_rows())
    flip(run / name)
    with pytest.raises(ResultsError, match=f"{name}: it has changed since the run finished"):
        find_runs([tmp_path])


def test_changed_ranks_are_found_when_they_are_read(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, regdb_rows()))
    assert run.ranks()
    np.savez(run.path / "ranks.npz", other=np.zeros(3))
    with pytest.raises(ResultsError, match=r"ranks\.npz: it has changed"):
        run.ranks()


def test_missing_and_added_files_are_named(tmp_path: Path) -> None:
    run = write_run(tmp_path, regdb_rows())
    (run / "history.csv").unlink()
    assert changed_files(run) == ["history.csv: it is missing"]
    assert changed_files(run, ["log.txt"]) == ["log.txt: it is missing"]
    (run / "extra.csv").write_text("x")
    assert "was not there when the run finished" in changed_files(run, ["extra.csv"])[0]


def test_a_run_without_digests_is_read_with_a_warning(tmp_path: Path) -> None:
    run = write_run(tmp_path, regdb_rows())
    (run / COMPLETE).write_text("")
    with pytest.warns(ChecksumWarning, match=f"{run} finished before digests were kept"):
        assert len(read_run(run).metrics) == len(regdb_rows())


@pytest.mark.parametrize("content", [b"nonsense\n", b"\xff\xfe", b"abc  metrics.csv\n"])
def test_damaged_digests_are_refused(tmp_path: Path, content: bytes) -> None:
    run = write_run(tmp_path, regdb_rows())
    (run / COMPLETE).write_bytes(content)
    with pytest.raises(ResultsError, match=r"COMPLETE is (damaged|not readable)"):
        read_run(run)


def test_checkpoints_are_among_the_files(tmp_path: Path) -> None:
    run = write_run(tmp_path, regdb_rows())
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").write_bytes(b"weights")
    (run / COMPLETE).write_text(checksums(run))
    assert "checkpoints/last.ckpt" in read_checksums(run)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "ours"}, "rows with method ours, the manifest says dmic"),
        ({"preset": "paper"}, "rows with preset paper, the manifest says demo"),
        ({"seed": 4}, "rows with seed 4, the manifest says 0"),
    ],
)
def test_rows_under_another_name_are_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    run = write_run(tmp_path, regdb_rows())
    write_frame(regdb_rows().assign(**changes), run / "metrics.csv", METRICS)
    with pytest.raises(ResultsError, match=words):
        read_run(finish(run))


def test_doubled_rows_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, regdb_rows())
    rows = regdb_rows()
    write_frame(rows.iloc[[*range(len(rows)), 3]], run / "metrics.csv", METRICS)
    with pytest.raises(ResultsError, match="has a row twice: last, regdb, visible-to-thermal, 1, rank-20"):
        read_run(finish(run))


def test_runs_behind_links_are_found_once_and_circles_end(tmp_path: Path) -> None:
    write_run(tmp_path / "scratch", regdb_rows())
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "regdb").symlink_to(tmp_path / "scratch" / "regdb")
    (tmp_path / "runs" / "back").symlink_to(tmp_path / "runs")
    assert len(find_runs([tmp_path / "runs", tmp_path / "scratch"]).runs) == 1


def test_a_whole_file_replaces_a_link_and_follows_the_umask(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "table.csv").symlink_to(tmp_path / "precious")
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "table.csv", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "table.csv").read_bytes() == b"new"
    assert (tmp_path / "table.csv").stat().st_mode & 0o777 == 0o640


def test_leftovers_go_and_other_files_stay(tmp_path: Path) -> None:
    for name in (".last.ckpt.12-0123abcd", ".metrics.csv.ab12cd_3", ".hidden", "last.ckpt", ".keep.txt"):
        (tmp_path / name).touch()
    clear_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".hidden", "last.ckpt", ".keep.txt"}


def test_what_a_living_process_has_begun_stays_where_others_write(tmp_path: Path) -> None:
    names = {f".a.csv.{os.getpid()}-0123abcd", ".a.csv.999999999-0123abcd"}
    for name in names:
        (tmp_path / name).touch()
    clear_leftovers(tmp_path, shared=True)
    assert {path.name for path in tmp_path.iterdir()} == {f".a.csv.{os.getpid()}-0123abcd"}
    clear_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_error_of_another_file_keeps_that_files_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, whole(tmp_path / "bundle.zip") as file:
        file.write((tmp_path / "absent.csv").read_bytes())
    assert raised.value.filename == str(tmp_path / "absent.csv")
    assert not list(tmp_path.iterdir())
