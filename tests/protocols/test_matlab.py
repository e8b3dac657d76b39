"""MATLAB files: the numbers that scipy reads, and damaged ones refused."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from protocols.base import DataError
from protocols.matlab import read_matlab


def content(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    cell = np.empty((3, 2), dtype=object)
    for place in np.ndindex(3, 2):
        cell[place] = rng.integers(0, 200, (int(rng.integers(0, 4)), 5)).astype("u1")
    kinds = ("u1", "i2", "i4", "i8", "f4", "f8")
    return {f"x{kind}": (100 * rng.random((4, 3))).astype(kind) for kind in kinds} | {"cell": cell}


@pytest.mark.parametrize("packed", [False, True])
def test_arrays_and_cells_are_those_of_scipy(tmp_path: Path, packed: bool) -> None:
    path, known = tmp_path / "x.mat", content(0)
    scipy.io.savemat(path, known, do_compression=packed)
    found, other = read_matlab(path, known), scipy.io.loadmat(path)
    assert found.keys() == known.keys()
    for name in known:
        if name != "cell":
            np.testing.assert_array_equal(found[name], other[name])
            assert found[name].dtype == other[name].dtype
    for place in np.ndindex(3, 2):
        np.testing.assert_array_equal(found["cell"][place], other["cell"][place])
    assert list(read_matlab(path, ["xf8", "absent"])) == ["xf8"]


@pytest.mark.parametrize("packed", [False, True])
def test_damaged_files_give_numbers_or_an_error(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, content(1), do_compression=packed)
    raw, dice = path.read_bytes(), random.Random(0)
    for _ in range(400):
        damaged = bytearray(raw)
        for _ in range(dice.randrange(1, 4)):
            damaged[dice.randrange(120, len(raw))] = dice.choice([0, 1, 127, 255, dice.randrange(256)])
        path.write_bytes(damaged[: dice.choice([len(raw), dice.randrange(130, len(raw))])])
        with contextlib.suppress(DataError):
            read_matlab(path, content(1))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "no MATLAB file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "version 7.3; save it with"),
        (bytes(126) + b"IM" + bytes(3), "ends within a tag"),
    ],
)
def test_what_is_no_such_file(tmp_path: Path, raw: bytes, words: str) -> None:
    (tmp_path / "x.mat").write_bytes(raw)
    with pytest.raises(DataError, match=words):
        read_matlab(tmp_path / "x.mat", ["x"])


def test_a_wanted_text_is_refused_and_an_unwanted_one_left_out(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"name": "me", "x": np.eye(2)})
    assert list(read_matlab(tmp_path / "x.mat", ["x"])) == ["x"]
    with pytest.raises(DataError, match="'name' is no matrix of real numbers"):
        read_matlab(tmp_path / "x.mat", ["name"])
