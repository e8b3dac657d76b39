"""``reidbench data``: what is written, what is refused, and what a person reads."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cli.app import main
from protocols.sysu_mm01 import SysuAll, SysuIndoor


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Data = Callable[..., Outcome]


@pytest.fixture
def data(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    """Run ``reidbench data`` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REIDBENCH_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("warnings.showwarning", None)  # the command sets its own; undone afterwards

    def call(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as stopped:
            main(["data", *map(str, arguments)])
        written = capsys.readouterr()
        code = stopped.value.code
        return Outcome(code if isinstance(code, int) else 0, written.out, written.err)

    return call


@pytest.fixture
def regdb(tiny_regdb: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_regdb, tmp_path / "regdb"))


@pytest.fixture
def sysu(tiny_sysu: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_sysu, tmp_path / "sysu"))


def refused(outcome: Outcome, *words: object) -> None:
    """Assert exit code 2 and one message with every word."""
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: ")
    for word in words:
        assert str(word) in outcome.err, outcome.err


def rows(path: Path) -> list[tuple[str, int, int]]:
    """Read an exported list with nothing of ours."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *found = csv.reader(file)
    assert header == ["path", "identity", "camera"]
    return [(name, int(identity), int(camera)) for name, identity, camera in found]


# -- synth -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("like", "images"), [("regdb", 4 * 2 * 2), ("sysu", 4 * 6 * 2)])
def test_synth_says_what_it_made_and_the_check_agrees(data: Data, like: str, images: int) -> None:
    made = data("synth", "twin", "--like", like, "--identities", 4, "--images", 2, "--seed", 5)
    assert made.code == 0
    assert made.out == f"twin: synthetic twin of {like}, medium, seed 5: {images} images of 4 people\n"
    assert made.err == ""
    checked = data("check", "twin")
    assert checked.code == 0
    assert "synthetic twin" in checked.out
    assert checked.out.endswith("the data may be used\n")


def test_synth_twice_gives_one_fingerprint_and_another_seed_another(data: Data) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        data("synth", name, "--like", "regdb", "--identities", 4, "--images", 1, "--seed", seed)
    prints = [data("fingerprint", name).out for name in "abc"]
    assert [len(text) for text in prints] == [65] * 3
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--like", "regbd"), ["regbd", "regdb or sysu"]),
        (("--like", "regdb", "--identities", 7), ["7 identities", "even"]),
        (("--like", "sysu", "--difficulty", "hrad"), ["hrad", "easy, medium, hard"]),
        (("--like", "sysu", "--full-size", "--identities", 8), ["full-size", "leave out"]),
    ],
)
def test_synth_refusals_leave_nothing(
    data: Data, tmp_path: Path, options: tuple[object, ...], words: list[str]
) -> None:
    refused(data("synth", "twin", *options), *words)
    assert list(tmp_path.iterdir()) == []


def test_synth_does_not_touch_a_folder_in_use(data: Data, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    refused(data("synth", "mine", "--like", "regdb"), "mine", "not an empty folder")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


# -- check -----------------------------------------------------------------------------------------------


def test_truncated_and_foreign_files_are_named_whole(data: Data, regdb: Path) -> None:
    """A path is on one line, however narrow the terminal is."""
    image = sorted((regdb / "Visible").rglob("*.bmp"))[0]
    image.write_bytes(image.read_bytes()[:500])
    (regdb / "Thermal" / "notes.txt").touch()
    done = data("check", regdb)
    assert done.code == 2
    lines = done.out.splitlines()
    assert any(line.startswith(f"unreadable image {image}: ") for line in lines)
    assert done.err == f"warning: foreign file {regdb / 'Thermal' / 'notes.txt'} is ignored\n"
    assert lines[-1] == "1 file must be mended before use"


def test_foreign_file_among_images_is_said_once_and_not_counted(data: Data, sysu: Path) -> None:
    folder = next((sysu / "cam1").iterdir())
    (folder / "notes.txt").touch()
    done = data("check", sysu)
    assert done.code == 0
    assert (done.out + done.err).count("notes.txt") == 1
    assert "WRONG" not in done.out


def test_images_with_equal_bytes(data: Data, sysu: Path) -> None:
    first, second = sorted((sysu / "cam6").rglob("*.jpg"))[:2]
    shutil.copy(first, second)
    done = data("check", sysu)
    assert done.code == 2
    assert f"{second} has the same bytes as {first}" in done.out.splitlines()


def test_twin_with_a_missing_image(data: Data, sysu: Path) -> None:
    next((sysu / "cam4").rglob("*.jpg")).unlink()
    for more in ((), ("--allow-partial-data",)):
        done = data("check", sysu, *more)
        assert done.code == 2
        assert "make it again" in done.out


def test_real_data_with_other_counts(data: Data, regdb: Path) -> None:
    (regdb / "SYNTHETIC.json").unlink()
    done = data("check", regdb)
    assert done.code == 2
    assert "real data" in done.out
    assert "WRONG" in done.out
    assert done.out.endswith("or use --allow-partial-data, which marks every row\n")
    allowed = data("check", regdb, "--allow-partial-data")
    assert allowed.code == 0
    assert "differs" in allowed.out
    assert "marked real-partial" in allowed.out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Visible/1/x.bmp", ["a blank and an integer label"]),
        ("Visible/1/missing.bmp 0", ["no image Visible/1/missing.bmp"]),
        ("../outside.bmp 0", ["leads outside the data root"]),
        ("", ["a blank and an integer label"]),
    ],
)
def test_malformed_index_names_file_and_line(data: Data, regdb: Path, line: str, words: list[str]) -> None:
    index = regdb / "idx" / "train_visible_3.txt"
    lines = index.read_text().splitlines()
    lines[4] = line
    index.write_text("\n".join(lines))
    refused(data("check", regdb), f"{index}, line 5", *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,x,3", ["line 1, column 3", "'x'"]),
        ("1,2,", ["line 1, column 5"]),
        ("\n", ["line 1", "empty"]),
        ("1,2\n3\n", ["line 2"]),
        ("1,2,1", ["line 1, column 5", "twice"]),
        ("10000", ["line 1, column 1", "9999"]),
    ],
)
def test_malformed_id_file_names_file_line_and_column(
    data: Data, sysu: Path, text: str, words: list[str]
) -> None:
    (sysu / "exp" / "val_id.txt").write_text(text)
    refused(data("check", sysu), sysu / "exp" / "val_id.txt", *words)


def test_identities_in_two_splits(data: Data, regdb: Path, sysu: Path) -> None:
    test = (sysu / "exp" / "test_id.txt").read_text()
    (sysu / "exp" / "val_id.txt").write_text(test)
    refused(data("check", sysu), f"identity {min(map(int, test.split(',')))}", "val_id.txt", "test_id.txt")
    for side in ("visible", "thermal"):
        shutil.copy(regdb / "idx" / f"train_{side}_4.txt", regdb / "idx" / f"test_{side}_4.txt")
    refused(data("check", regdb), "split 4", "in training and in test")


def test_check_of_no_data_root_shows_both_trees(data: Data, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for command in ("check", "fingerprint"):
        refused(data(command, "empty"), "empty", "<root>/cam1", "<root>/Visible")
        refused(data(command, "nowhere"), "nowhere does not exist")


# -- export ----------------------------------------------------------------------------------------------


def test_export_of_regdb_is_in_evaluation_order(data: Data, tiny_regdb: Path, tmp_path: Path) -> None:
    done = data("export", "--protocol", "regdb", "--data", tiny_regdb, "--out", "lists")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"{folder}: 20 query and gallery lists"
        for folder in (Path("lists"), Path("lists", "thermal-to-visible"))
    ]
    for part, name in (("query", "visible"), ("gallery", "thermal")):
        found = rows(tmp_path / "lists" / f"{part}_7.csv")
        index = (tiny_regdb / "idx" / f"test_{name}_7.txt").read_text().splitlines()
        assert [f"{path} {identity}" for path, identity, _ in found] == index
        assert {camera for *_, camera in found} == {1 if name == "visible" else 2}


def test_export_of_sysu_is_in_evaluation_order(data: Data, tiny_sysu: Path, tmp_path: Path) -> None:
    done = data("export", "--protocol", "sysu", "--data", tiny_sysu, "--out", "lists")
    assert (done.code, done.err) == (0, "")
    test = sorted(int(i) for i in (tiny_sysu / "exp" / "test_id.txt").read_text().split(","))
    for protocol, cameras in ((SysuAll(), (1, 2, 4, 5)), (SysuIndoor(), (1, 2))):
        folder = tmp_path / "lists" / protocol.id
        query = rows(folder / "query_4.csv")
        assert [(i, c) for _, i, c in query] == [(i, c) for i in test for c in (3, 6) for _ in range(3)]
        gallery = rows(folder / "gallery_4.csv")
        assert [(i, c) for _, i, c in gallery] == [(i, c) for i in test for c in cameras]
        assert all(Path(path).match(f"cam{c}/{i:04d}/*.jpg") for path, i, c in query + gallery)
        trial = protocol.trials(tiny_sysu, 0)[4]
        assert tuple(path for path, *_ in gallery) == trial.gallery.images.paths


def test_export_of_partial_data_warns_once(data: Data, regdb: Path) -> None:
    (regdb / "SYNTHETIC.json").unlink()
    options = ("export", "--protocol", "regdb", "--data", regdb, "--out", "lists")
    refused(data(*options), "split 1", "expected 2060 of 206", "--allow-partial-data")
    allowed = data(*options, "--allow-partial-data")
    assert allowed.code == 0
    assert allowed.err.count("warning: ") == 1
    assert "counts are not the known ones of regdb" in allowed.err


def test_export_of_another_data_set(data: Data, tiny_regdb: Path) -> None:
    options = ("export", "--out", "lists")
    refused(data(*options, "--protocol", "sysu-all", "--data", tiny_regdb), "holds regdb", "sysu-mm01")
    refused(data(*options, "--protocol", "regdb", "--data", "nowhere"), "nowhere does not exist")
    refused(data(*options, "--protocol", "regdb"), "--data")
    refused(data(*options, "--protocol", "regbd", "--data", tiny_regdb), "regbd", "regdb")
