"""A short, seeded part of the fuzzing: the same inputs at every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.robustness import fuzz
from tests.robustness.fuzz import Reader, inputs, trouble
from tests.robustness.readers import readers, score_whole

INPUTS = 160
NAMES = (
    *("result .npz", "features .npz", "result .mat", "permutations .mat", "any .mat", "weights .pth"),
    *("weights .safetensors", "image", "metrics.csv", "history.csv", "profile.csv", "manifest.json"),
    *("manifest.json, earlier", "holder.json", "COMPLETE", "run", "bundle", "checkpoint", "list of images"),
    *("list of identities", "fingerprint", "folder of RegDB", "folder of SYSU-MM01", "folder of LLCM"),
    *("configuration", "trials", "command line"),
)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    folder = tmp_path_factory.mktemp("fuzz")
    score_whole(folder)
    return {one.name: one for one in readers(folder)}


def test_every_reader_is_among_them(known: dict[str, Reader]) -> None:
    assert tuple(known) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_answers_or_says_what_is_wrong(
    known: dict[str, Reader], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert inputs(known[name], 0, INPUTS // known[name].slow, tmp_path) == {}


def test_what_goes_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback, and a hang."""
    monkeypatch.setattr(fuzz, "HANG_S", 0.2)

    def read(drawn: str, _: Path) -> None:
        if drawn == "hang":
            while True:
                pass
        raise KeyError(drawn)

    reader = Reader("broken", None, read)
    found = [trouble(reader, drawn, tmp_path) for drawn in ("key", "hang")]
    words = ("KeyError", "HangError")
    for one, word in zip(found, words, strict=True):
        assert one
        assert one.what.startswith(word)
        assert one.place.endswith(" read")
