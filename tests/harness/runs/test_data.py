"""Where training images come from, and the lists for anybody's code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.errors import HarnessError
from harness.runs.data import with_own_cameras, without_identity_order
from harness.runs.exported import export
from protocols.base import Modality, Protocol
from protocols.llcm import LLCM
from protocols.regdb import RegDB
from protocols.sysu_mm01 import SysuAll, SysuIndoor

pytestmark = pytest.mark.filterwarnings("ignore")


def neighbours_alike(identity: np.ndarray) -> float:
    """Share of images whose successor shows the same person."""
    return float((identity[1:] == identity[:-1]).mean())


@pytest.mark.parametrize(
    ("protocol", "root", "split"), [(RegDB(), "tiny_regdb", 1), (SysuAll(), "tiny_sysu", 0)]
)
def test_training_order_says_nothing_of_identities(
    protocol: Protocol, root: str, split: int, request: pytest.FixtureRequest
) -> None:
    listed = protocol.dataset.training(request.getfixturevalue(root), split)
    found = without_identity_order(listed)
    assert sorted(zip(found.images.paths, found.identity.tolist(), strict=True)) == sorted(
        zip(listed.images.paths, listed.identity.tolist(), strict=True)
    )
    assert found.images.modality.tolist() == sorted(listed.images.modality.tolist())
    of = dict(zip(listed.images.paths, listed.images.camera.tolist(), strict=True))
    assert found.images.camera.tolist() == [of[path] for path in found.images.paths]
    people = len(set(found.identity.tolist()))
    assert neighbours_alike(listed.identity) > 0.5
    assert neighbours_alike(found.identity) < 3 / people


def test_a_camera_of_both_modalities_is_two_for_methods(tiny_llcm: Path, tiny_sysu: Path) -> None:
    listed = LLCM.dataset.training(tiny_llcm, 0)
    found, infrared = with_own_cameras(listed), listed.images.modality == Modality.INFRARED
    assert found.images.camera[~infrared].tolist() == listed.images.camera[~infrared].tolist()
    moved = found.images.camera[infrared] - listed.images.camera[infrared]
    assert len(set(moved.tolist())) == 1
    assert not set(found.images.camera[infrared].tolist()) & set(found.images.camera[~infrared].tolist())
    others = SysuAll.dataset.training(tiny_sysu, 0)
    assert with_own_cameras(others) is others


def test_export_writes_the_lists_in_order(tiny_regdb: Path, tiny_sysu: Path, tmp_path: Path) -> None:
    written = export(RegDB(), tiny_regdb, tmp_path / "regdb")
    assert len(written) == 10 * 2 * 2
    trial = RegDB().trials(tiny_regdb, 7, allow_partial=True)[1]
    for name, side in (("query", trial.query), ("gallery", trial.gallery)):
        frame = pd.read_csv(tmp_path / "regdb" / "thermal-to-visible" / f"{name}_7.csv")
        assert list(frame.columns) == ["path", "identity", "camera"]
        assert tuple(frame.path) == side.images.paths
        assert frame.identity.tolist() == side.identity.tolist()
        assert frame.camera.tolist() == side.images.camera.tolist()
    indoor = tmp_path / "sysu-indoor"
    assert set(export(SysuIndoor(), tiny_sysu, indoor)) == set(indoor.iterdir())
    assert {p.name for p in indoor.iterdir()} == {
        f"{s}_{t}.csv" for s in ("query", "gallery") for t in range(10)
    }
    assert not list(tmp_path.rglob("*.csv.*"))
    (indoor / "query_3.csv").unlink()  # as if the export had been killed
    again = export(SysuIndoor(), tiny_sysu, indoor)
    assert set(again) == set(indoor.iterdir())
    (indoor / "query_3.csv").write_text("others")
    with pytest.raises(HarnessError, match="holds other lists already"):
        export(SysuIndoor(), tiny_sysu, indoor)
