from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import scipy.io
import torch

from harness.errors import HarnessError
from harness.runs.exported import export
from harness.tools.score import score_file
from harness.tools.score_paths import score_by_path, summary_lines
from protocols.files import DataWarning
from protocols.regdb import RegDB

METRICS = ["rank-1", "rank-5", "rank-10", "rank-20", "mAP", "mINP"]


def arrays(**changes: Any) -> dict[str, Any]:
    """A RegDB-like result of 6 queries and 9 gallery images; None removes an array."""
    rng = np.random.default_rng(0)
    found = {
        "distance": rng.random((6, 9)),
        "query_ids": np.arange(6) % 3,
        "gallery_ids": np.arange(9) % 3,
        "query_cams": np.full(6, 1),
        "gallery_cams": np.full(9, 2),
    }
    return {key: value for key, value in (found | changes).items() if value is not None}


def saved(folder: Path, content: dict[str, Any]) -> Path:
    np.savez(folder / "result.npz", **content)
    return folder / "result.npz"


def test_values_by_hand_in_percent(tmp_path: Path) -> None:
    """One query has its match first, the other second of two: AP 1 and 1/2."""
    content = {
        "distance": np.array([[0.1, 0.2], [0.1, 0.2]]),
        "query_ids": [5, 7],
        "gallery_ids": [5, 7],
        "query_cams": [1, 1],
        "gallery_cams": [2, 2],
    }
    frame = score_file(saved(tmp_path, content), "regdb")
    assert frame["metric"].to_list() == METRICS
    assert frame["value"].to_list() == [50, 100, 100, 100, 75, 75]


def test_features_score_like_their_distances_with_full_digits(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    q, g = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(9, 4)).astype(np.float32)
    product = -(q.astype(np.float64) @ g.astype(np.float64).T)
    by_distance = score_file(saved(tmp_path, arrays(distance=product)), "regdb")
    by_features = score_file(
        saved(tmp_path, arrays(distance=None, query_features=q, gallery_features=g)), "regdb"
    )
    assert by_features.equals(by_distance)
    assert by_features["value"].dtype == np.float64


ORACLES = sorted((Path(__file__).parents[2] / "data" / "protocols").glob("*.npz"))


@pytest.mark.parametrize("path", ORACLES, ids=lambda p: p.stem)
def test_recorded_outputs_of_public_code_as_they_lie(path: Path) -> None:
    """What has no use here (strings, recorded results) is left alone; ``distances`` is a distance."""
    case = np.load(path, allow_pickle=False)
    sysu = "sysu-indoor" if "indoor" in path.stem else "sysu-all"
    name = sysu if case["kind"] == "sysu" else "regdb"
    cmc = [case["cmc"][min(rank, len(case["cmc"])) - 1] for rank in (1, 5, 10, 20)]
    values = score_file(path, name)["value"].to_numpy()
    np.testing.assert_allclose(values / 100, [*cmc, case["mAP"], case["mINP"]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("ids", "cams"), [(np.int32, np.uint8), (np.uint64, np.int16)])
def test_labels_of_any_integer_type_and_matrices_of_any_order(
    tmp_path: Path, order: Literal["C", "F"], ids: type, cams: type
) -> None:
    plain = arrays()
    other = {
        key: plain[key].astype(ids if key.endswith("ids") else cams) for key in plain if key != "distance"
    }
    other["paths"] = np.array(["a", None], dtype=object)
    other["distance"] = np.asarray(plain["distance"], order=order)
    expected = score_file(saved(tmp_path, plain), "regdb")
    assert score_file(saved(tmp_path, other), "regdb").equals(expected)


def test_huge_identities_stay_apart(tmp_path: Path) -> None:
    top = np.iinfo(np.int64).max
    content = arrays(distance=np.array([[0.1, 0.2]]), query_ids=[top], gallery_ids=[top - 1, top])
    content |= {"query_cams": [1], "gallery_cams": [2, 2]}
    assert score_file(saved(tmp_path, content), "regdb")["value"].to_list() == [0, 100, 100, 100, 50, 50]


def test_queries_without_a_match_are_counted_and_features_that_are_no_unit_rows_named(tmp_path: Path) -> None:
    with pytest.warns(DataWarning, match="6 queries, 4 valid queries"):
        score_file(saved(tmp_path, arrays(query_ids=np.arange(6) % 3 + 1)), "regdb")
    features = {"distance": None, "query_features": np.ones((6, 1)), "gallery_features": np.full((9, 1), 2.0)}
    with pytest.warns(DataWarning, match="gallery_features has rows whose norm is not 1"):
        score_file(saved(tmp_path, arrays(**features)), "regdb")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int32, np.uint8])
def test_distances_of_any_real_type(tmp_path: Path, dtype: type) -> None:
    distance = np.arange(54).reshape(6, 9)[:, ::-1]
    expected = score_file(saved(tmp_path, arrays(distance=distance.astype(np.float64))), "regdb")
    assert score_file(saved(tmp_path, arrays(distance=distance.astype(dtype))), "regdb").equals(expected)


def test_sysu_hides_camera_2_from_camera_3(tmp_path: Path) -> None:
    """The nearest image is a wrong one of camera 2: it counts for camera 6 only."""
    content = {
        "distance": np.array([[0.1, 0.2]]),
        "query_ids": [1],
        "gallery_ids": [2, 1],
        "gallery_cams": [2, 1],
    }
    for camera, rank_1 in ((3, 100), (6, 0)):
        frame = score_file(saved(tmp_path, content | {"query_cams": [camera]}), "sysu-all")
        assert frame["value"][0] == rank_1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"query_ids": None}, ["query_ids", "missing"]),
        ({"distance": None}, ["distance", "query_features"]),
        ({"query_features": np.ones((6, 2))}, ["distance", "gallery_features"]),
        ({"query_features": np.ones((6, 2)), "gallery_features": np.ones((9, 2))}, ["either"]),
        ({"query_ids": np.arange(6) / 2}, ["query_ids", "integers"]),
        ({"query_ids": np.arange(6.0)}, ["query_ids", "astype"]),
        ({"query_ids": np.array(list("abcdef"))}, ["query_ids", "integers"]),
        ({"gallery_ids": np.zeros((3, 3), int)}, ["gallery_ids", "(3, 3)"]),
        ({"query_cams": np.ones(5, int)}, ["query_cams", "5", "6"]),
        ({"distance": np.zeros((9, 6))}, ["(9, 6)"]),
        ({"distance": np.zeros(54)}, ["distance", "(54,)"]),
        ({"distance": np.zeros((6, 9), complex)}, ["distance", "complex"]),
        ({"distance": np.full((6, 9), np.nan)}, ["distance", "NaN"]),
        ({"gallery_ids": np.arange(9) + 50}, ["match"]),
        ({"distance": np.array([[None] * 9] * 6)}, ["'distance'", "plain arrays"]),
        ({"query_ids": np.full(6, 2**63, dtype=np.uint64)}, ["query_ids", "2**63"]),
        (
            {"distance": None, "query_features": np.zeros((6, 2)), "gallery_features": np.ones((9, 2))},
            ["query_features", "zero"],
        ),
        (
            {"distance": None, "query_features": np.ones((6, 2)), "gallery_features": np.ones((9, 3))},
            ["width"],
        ),
    ],
)
def test_refusals_name_the_array(tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    path = saved(tmp_path, arrays(**changes))
    with pytest.raises(HarnessError) as caught:
        score_file(path, "regdb")
    for word in ["result.npz", *words]:
        assert word in str(caught.value)


def test_files_that_are_not_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(HarnessError, match="no such file"):
        score_file(path, "regdb")
    for content in (b"", b"hello", b"PK\x03\x04 broken"):
        path.write_bytes(content)
        with pytest.raises(HarnessError, match=r"a\.npz"):
            score_file(path, "regdb")
    np.save(tmp_path / "b.npy", np.ones(3))
    with pytest.raises(HarnessError, match="savez"):
        score_file(tmp_path / "b.npy", "regdb")
    whole = saved(tmp_path, arrays()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HarnessError, match=r"a\.npz"):
        score_file(path, "regdb")


def test_protocol_must_be_one(tmp_path: Path) -> None:
    path = saved(tmp_path, arrays())
    with pytest.raises(HarnessError, match="sysu-indoor"):
        score_file(path, "sysu")
    with pytest.raises(HarnessError, match="'regdb'"):
        score_file(path, "regbd")


def test_matlab_and_torch_files_score_like_the_same_arrays(tmp_path: Path) -> None:
    content = arrays()
    known = score_file(saved(tmp_path, content), "regdb")
    scipy.io.savemat(tmp_path / "result.mat", content)
    torch.save({key: torch.as_tensor(value) for key, value in content.items()}, tmp_path / "result.pt")
    for name in ("result.mat", "result.pt"):
        assert score_file(tmp_path / name, "regdb").equals(known)


def test_regdb_needs_no_cameras_and_sysu_says_which_are_missing(tmp_path: Path) -> None:
    known = score_file(saved(tmp_path, arrays()), "regdb")
    path = saved(tmp_path, arrays(query_cams=None, gallery_cams=None))
    assert score_file(path, "regdb").equals(known)
    with pytest.raises(HarnessError, match="the array 'query_cams' is missing"):
        score_file(path, "sysu-all")


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_junk_is_refused(tmp_path: Path, side: str) -> None:
    content = arrays()
    content[f"{side}_ids"][2] = -1
    with pytest.raises(HarnessError, match=f"{side}_ids has 1 negative numbers; .* leave these images out"):
        score_file(saved(tmp_path, content), "regdb")


def test_an_unknown_camera_is_refused_where_cameras_decide(tmp_path: Path) -> None:
    content = arrays(query_cams=np.array([1, -1, 1, 1, 1, 1]))
    with pytest.raises(HarnessError, match=r"query_cams has 1 negative numbers; .* leave these images out"):
        score_file(saved(tmp_path, content), "llcm")
    assert len(score_file(tmp_path / "result.npz", "regdb"))


def test_arrays_packed_into_next_to_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", **arrays(distance=np.zeros((400, 400))))
    monkeypatch.setattr("results.arrays.BOMB_BYTES", 2**20)
    with pytest.raises(HarnessError, match=r"bytes unpack to 1280128; save it with numpy\.savez"):
        score_file(tmp_path / "bomb.npz", "regdb")


HEADERS = {
    "open bracket": "{'descr': '<f8', 'shape': ((((( ",
    "2**64": "{'descr': '<f8', 'fortran_order': False, 'shape': (18446744073709551616,), }",
    "too long": "{'descr': '<f8', 'fortran_order': False, 'shape': (900000000000,), }",
    "no integer": "{'descr': '<f8', 'fortran_order': False, 'shape': (3.5,), }",
    "no number": "{'descr': '<f8', 'fortran_order': False, 'shape': (True,), }",
    "nonsense": "{'descr': '<U999999999', 'fortran_order': False, 'shape': (4611686018427387904, 4), }",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_damaged_headers_name_the_array(tmp_path: Path, header: str) -> None:
    padded = (header + " " * (63 - (10 + len(header)) % 64) + "\n").encode()
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        raw = b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + bytes(64)
        archive.writestr("distance.npy", raw)
    with pytest.raises(HarnessError, match="the array 'distance' is not readable"):
        score_file(tmp_path / "x.npz", "regdb")


def test_columns_and_texts_are_identities_too(tmp_path: Path) -> None:
    known = score_file(saved(tmp_path, arrays()), "regdb")
    texts = {
        f"{side}_ids": np.array([f"person {i}" for i in arrays()[f"{side}_ids"]])
        for side in ("query", "gallery")
    }
    assert score_file(saved(tmp_path, arrays(**texts)), "regdb").equals(known)
    columns = {key: np.reshape(value, (-1, 1)) for key, value in arrays().items() if key != "distance"}
    assert score_file(saved(tmp_path, arrays(**columns)), "regdb").equals(known)


def test_a_similarity_is_noticed(tmp_path: Path) -> None:
    ids = np.arange(30)
    content = {"distance": np.eye(30), "query_ids": ids, "gallery_ids": ids}
    with pytest.warns(DataWarning, match="would have mAP 100.00 instead of"):
        score_file(saved(tmp_path, content), "regdb")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        score_file(saved(tmp_path, content | {"distance": -np.eye(30)}), "regdb")
        score_file(
            saved(tmp_path, content | {"distance": np.random.default_rng(0).random((30, 30))}), "regdb"
        )


def features_by_path(root: Path, splits: list[int]) -> tuple[dict[str, Any], float]:
    """Return features of every test image of some splits, and rank-1 of the first direction of the first, by a loop."""
    rng, protocol = np.random.default_rng(0), RegDB()
    rows: dict[str, list[Any]] = {"features": [], "paths": [], "split": []}
    hits = []
    for split in splits:
        trial, _ = protocol.trials(root, split, allow_partial=True)
        made = {}
        for side in (trial.query, trial.gallery):
            for path in side.images.paths:
                feature = rng.normal(size=4)
                made[path] = feature / np.linalg.norm(feature)
                rows["features"].append(made[path])
                rows["paths"].append(path)
                rows["split"].append(split)
        if split == splits[0]:
            gallery = np.stack([made[path] for path in trial.gallery.images.paths]).astype(np.float32)
            for path, identity in zip(trial.query.images.paths, trial.query.identity, strict=True):
                nearest = int(np.argmax(gallery.astype(float) @ made[path].astype(np.float32).astype(float)))
                hits.append(trial.gallery.identity[nearest] == identity)
    return {key: np.array(values) for key, values in rows.items()}, 100 * float(np.mean(hits))


@pytest.mark.filterwarnings("ignore")
def test_features_by_path_are_scored_on_every_trial(tmp_path: Path, tiny_regdb: Path) -> None:
    content, rank_1 = features_by_path(tiny_regdb, [2, 5])
    frame = score_by_path(saved(tmp_path, content), RegDB(), str(tiny_regdb))
    assert set(frame["trial"]) == {2, 5}
    assert set(frame["setting"]) == {"visible-to-thermal", "thermal-to-visible"}
    first = frame.query("setting == 'visible-to-thermal' and trial == 2 and metric == 'rank-1'")
    assert first["value"].item() == pytest.approx(rank_1)
    absolute = content | {"paths": np.array([f"{tiny_regdb}/{path}" for path in content["paths"]])}
    assert score_by_path(saved(tmp_path, absolute), RegDB(), str(tiny_regdb)).equals(frame)
    export(RegDB(), tiny_regdb, tmp_path / "lists")
    assert score_by_path(saved(tmp_path, content), RegDB(), str(tmp_path / "lists")).equals(frame)
    lines = summary_lines(frame, 10)
    mean = frame.query("setting == 'visible-to-thermal' and metric == 'mAP'")["value"]
    assert any(f"{mean.mean():.2f} ± {mean.std():.2f} %  (2 of 10 trials)" in line for line in lines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": None}, "add the array 'split'"),
        ({"paths": None}, "'paths' is missing"),
        ({"split": np.array(99)}, "split names none of"),
        ({"split": np.array(3)}, "have no features, the first is"),
        ({"paths": np.zeros(3)}, "expected .* texts"),
    ],
)
def test_what_is_wrong_with_features_by_path_is_named(
    tmp_path: Path, tiny_regdb: Path, changes: dict[str, Any], message: str
) -> None:
    content = {k: v for k, v in (features_by_path(tiny_regdb, [2])[0] | changes).items() if v is not None}
    with pytest.raises(HarnessError, match=message):
        score_by_path(saved(tmp_path, content), RegDB(), str(tiny_regdb))
