"""RegDB's index files: what is refused, with file and line, and what is read."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from protocols.base import DataError, Modality
from protocols.files import PartialDataWarning
from protocols.regdb import RegDB, RegDBData, read_index

quiet = pytest.mark.filterwarnings("ignore")
SIDES = {"visible": "Visible", "thermal": "Thermal"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "idx").mkdir()
    for name, top in SIDES.items():
        for part, people in (("train", (1, 2)), ("test", (3, 4))):
            lines = []
            for label, person in enumerate(people):
                for k in (2, 1):
                    image = f"{top}/{person}/{k}.bmp"
                    (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
                    (tmp_path / image).touch()
                    lines.append(f"{image} {label}\n")
            (tmp_path / "idx" / f"{part}_{name}_1.txt").write_text("".join(lines))
    return tmp_path


def write(root: Path, text: str) -> Path:
    path = root / "idx" / "test_visible_1.txt"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Visible/3/1.bmp 0\n\nVisible/4/1.bmp 1\n", 2),
        ("Visible/3/1.bmp 0 7\n", 1),
        ("Visible/3/1.bmp\n", 1),
        ("Visible/3/1.bmp 0\nVisible/3/2.bmp zero\n", 2),
        ("Visible/3/1.bmp -1\n", 1),
        (f"Visible/3/1.bmp {10**30}\n", 1),
        ("Visible/3/9.bmp 0\n", 1),
        ("../Visible/3/1.bmp 0\n", 1),
        ("/etc/hostname 0\n", 1),
        ("Visible/../../x.bmp 0\n", 1),
        ("C:\\RegDB\\Visible\\3\\1.bmp 0\n", 1),
        ("Visible/3/1.bmp ²\n", 1),
        ("Visible/3/1.bmp 0\nVisible/3/2.bmp 1\n", 2),
        ("Visible/3/1.bmp 0\nVisible/4/1.bmp 0\n", 2),
        ("Thermal/3/1.bmp 0\n", 1),
    ],
)
def test_malformed_line_is_named(root: Path, text: str, line: int) -> None:
    path = write(root, text)
    with pytest.raises(DataError) as caught:
        read_index(root, "test", Modality.VISIBLE, 1)
    assert str(caught.value).startswith(f"{path}, line {line}:")


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_empty_file(root: Path, text: str) -> None:
    write(root, text)
    with pytest.raises(DataError, match=r"test_visible_1.txt: empty"):
        read_index(root, "test", Modality.VISIBLE, 1)


@pytest.mark.parametrize(
    "text",
    [
        "Visible/3/1.bmp  0\nVisible/4/2.bmp\t1",
        "Visible/3/1.bmp 0\r\nVisible/4/2.bmp 1\r\n",
        "Visible/3/1.bmp 0\nVisible/4/2.bmp 1\n\n",
        "\ufeffVisible/3/1.bmp 0 \nVisible/4/2.bmp 1  \n \n",
        "Visible\\3\\1.bmp 0\nVisible\\4\\2.bmp 1\n",
    ],
)
def test_blanks_and_line_ends_that_are_fine(root: Path, text: str) -> None:
    write(root, text)
    found = read_index(root, "test", Modality.VISIBLE, 1)
    assert found.images.paths == ("Visible/3/1.bmp", "Visible/4/2.bmp")
    assert found.identity.tolist() == [0, 1]


def test_blank_in_a_path(root: Path) -> None:
    (root / "Visible" / "3" / "a b.bmp").touch()
    write(root, "Visible/3/a b.bmp 0\n")
    assert read_index(root, "test", Modality.VISIBLE, 1).images.paths == ("Visible/3/a b.bmp",)


def test_missing_file_shows_the_tree(root: Path) -> None:
    with pytest.raises(DataError, match=r"test_visible_2.txt not found. Expected tree:\n<root>/Visible"):
        read_index(root, "test", Modality.VISIBLE, 2)


def test_wrong_counts_are_refused_or_a_warning(root: Path) -> None:
    for read in (RegDBData().training, RegDB().trials):
        with pytest.raises(
            DataError, match=r"4 images of 2 identities \(expected 2060 of 206\).*--allow-partial"
        ):
            read(root, 1)
        with pytest.warns(PartialDataWarning, match="not the known ones of regdb; .*`reidbench data check"):
            read(root, 1, allow_partial=True)


def test_counts_are_warned_of_once(root: Path) -> None:
    """Whatever is read: the text is one, so the filter of the command line shows it once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        RegDBData().training(root, 1, allow_partial=True)
        RegDB().trials(root, 1, allow_partial=True)
    assert len({str(warning.message) for warning in caught}) == 1


def test_a_twin_has_other_counts_and_needs_no_warning(tiny_regdb: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert RegDBData().training(tiny_regdb, 1)
        assert RegDB().trials(tiny_regdb, 1)


@quiet
def test_order_is_that_of_the_lines_and_both_directions_share_it(root: Path) -> None:
    training = RegDBData().training(root, 1, allow_partial=True)
    assert training.images.paths[:2] == ("Visible/1/2.bmp", "Visible/1/1.bmp")
    assert training.images.modality.tolist() == [0] * 4 + [1] * 4
    there, back = RegDB().trials(root, 1, allow_partial=True)
    assert (there.setting, back.setting) == ("visible-to-thermal", "thermal-to-visible")
    assert there.query is back.gallery
    assert there.gallery is back.query
    assert np.unique(there.query.images.camera).tolist() == [1]


def test_lists_of_the_two_modalities_exchanged(root: Path) -> None:
    visible, thermal = (root / "idx" / f"test_{name}_1.txt" for name in SIDES)
    text = visible.read_text()
    visible.write_text(thermal.read_text())
    thermal.write_text(text)
    with pytest.raises(DataError, match=r"test_visible_1.txt, line 1: .* the two modalities are exchanged"):
        RegDB().trials(root, 1, allow_partial=True)


@quiet
def test_a_label_is_of_one_folder_in_both_modalities(root: Path) -> None:
    path = root / "idx" / "test_thermal_1.txt"
    path.write_text("Thermal/4/1.bmp 0\nThermal/3/1.bmp 1\n")
    with pytest.raises(DataError, match="label 0 is of identity folder 3 in the visible list and of 4"):
        RegDB().trials(root, 1, allow_partial=True)


def test_label_sets_that_differ(root: Path) -> None:
    write(root, "Visible/3/1.bmp 5\n")
    with pytest.raises(DataError, match="the label sets of the two modalities differ"):
        RegDB().trials(root, 1)
    with pytest.warns(PartialDataWarning, match="split 1: the label sets"):
        RegDB().trials(root, 1, allow_partial=True)


@quiet
@pytest.mark.parametrize(("name", "top"), SIDES.items())
def test_identity_in_training_and_test(root: Path, name: str, top: str) -> None:
    (root / "idx" / f"test_{name}_1.txt").write_text(f"{top}/2/1.bmp 0\n")
    with pytest.raises(
        DataError, match="identity folder 2 is in the training and in the test files of split 1"
    ):
        RegDBData().training(root, 1, allow_partial=True)


@quiet
def test_identity_of_the_test_part_in_thermal_training_alone(root: Path) -> None:
    with (root / "idx" / "train_thermal_1.txt").open("a") as file:
        file.write("Thermal/3/1.bmp 7\n")
    with pytest.raises(DataError, match="identity folder 3 is in the training and in the test files"):
        RegDBData().training(root, 1, allow_partial=True)
