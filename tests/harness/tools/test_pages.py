from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from harness import registry
from harness.errors import HarnessError
from harness.registry import Entry, load_method
from harness.runs.fields import leaves
from harness.tools import pages as show
from harness.tools.data_check import check_page
from harness.tools.doctor import doctor, doctor_page
from methods.base import Adapted


def text_of(page: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=400)
    console.print(page)
    return console.file.getvalue()  # type: ignore[attr-defined]


def line_with(page: RenderableType, *words: str) -> str:
    """Return the only line that has all the words."""
    (line,) = [line for line in text_of(page).splitlines() if all(word in line for word in words)]
    return line


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│┃ ").split("│")]


def test_listing_has_everything_and_only_what_was_asked() -> None:
    for name in registry.methods():
        assert name in text_of(show.listing("methods"))
    for name in registry.protocols():
        assert name in text_of(show.listing("protocols"))
    assert "sysu-indoor" not in text_of(show.listing("methods"))
    assert "source-only" not in text_of(show.listing("protocols"))
    with pytest.raises(HarnessError, match="methods or protocols"):
        show.listing("method")


def test_listing_shows_a_broken_plugin_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Entry("odd", "", "odd:Odd", "odd-package", error="the package odd-package is broken: [red]")
    monkeypatch.setattr(show, "methods", lambda: registry.methods() | {"odd": broken})
    assert "odd-package is broken: [red]" in line_with(show.listing("methods"), "odd")


@pytest.mark.parametrize("name", sorted(registry.methods()))
def test_every_method_has_a_page(name: str) -> None:
    method, page = load_method(name), show.page(name, "demo")
    text = text_of(page)
    for word in (method.summary, method.reference.title, *method.reference.parts, *method.presets):
        assert word in text
    for key, leaf in leaves(method.Config).items():
        assert f" {key} " in text
        assert leaf.about in text


def test_values_stand_beside_default_and_source() -> None:
    assert cells(line_with(show.page("dmic", "paper"), " eps ", "pi2"))[:6] == [
        *("eps", "0.6", "0.6", "0.3", "0.6", "paper (IV-B)"),
    ]
    assert cells(line_with(show.page("dmic:mie", "paper"), " eps_schedule ", "shape"))[1] == "fixed"
    assert cells(line_with(show.page("dmic@demo", "paper"), " architecture "))[:3] == [
        *("architecture", "resnet18", "resnet50"),
    ]


def test_values_that_nobody_published_for_a_data_set_are_shown_so() -> None:
    for name in registry.methods():
        page, layers = show.page(name, "paper"), load_method(name).presets["paper"]
        for dataset in registry.datasets():
            stated = dataset in layers and not isinstance(layers[dataset], Adapted)
            assert (f"{dataset} (adapted)" in text_of(page)) != (stated or "*" in layers), (name, dataset)
    assert "k1=25" in line_with(show.page("adca", "paper"), "paper", "llcm (adapted)")


def test_diff_of_variants_lists_exactly_what_differs() -> None:
    page = show.diff("dmic:cc1+ic1", "dmic", "paper")
    assert cells(line_with(page, "epochs_joint", "regdb")) == ["epochs_joint", "regdb", "0", "50"]
    assert text_of(page).count("│ epochs_joint") == len(registry.datasets())
    assert "eps_low" not in text_of(page)


def test_diff_of_presets_and_of_methods() -> None:
    assert cells(line_with(show.diff("dmic", "dmic@demo", "paper"), " height ")) == [
        "height",
        "engine",
        "288",
        "64",
    ]
    page = show.diff("dmic", "cluster-contrast", "paper")
    assert cells(line_with(page, " joint_k2 ", "sysu-mm01")) == ["joint_k2", "sysu-mm01", "32", "-"]
    assert cells(line_with(page, " spaces ", "sysu-mm01")) == ["spaces", "sysu-mm01", "-", "joint"]
    assert "the same configuration" in text_of(show.diff("dmic", "dmic@paper", "paper"))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(HarnessError, match="dmic"):
        show.page("dmik", "paper")
    with pytest.raises(HarnessError, match="demo"):
        show.diff("dmic", "dmic@dmeo", "paper")


def test_schedule_plots_both_quantities_for_both_data_sets() -> None:
    plot = show.schedule_plot("dmic", "paper")
    for title in ("eps, sysu-mm01", "k2, sysu-mm01", "eps, regdb", "k2, regdb"):
        assert title in plot
    assert "0.60" in plot
    assert "\x1b" not in plot
    assert plot == show.schedule_plot("dmic", "paper")
    assert "no schedule" in show.schedule_plot("source-only", "paper")


def test_doctor_page_says_whether_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REIDBENCH_DATA", str(tmp_path / "nowhere"))
    page, healthy = doctor_page(doctor(tmp_path, tmp_path / "images"))
    assert not healthy
    assert "nowhere" in line_with(page, "WRONG")


def test_check_page_of_a_whole_and_of_a_damaged_twin(tiny_regdb: Path, tmp_path: Path) -> None:
    page, usable = check_page(tiny_regdb, False)
    assert usable
    assert "synthetic twin" in text_of(page)
    root = tmp_path / "regdb"
    shutil.copytree(tiny_regdb, root)
    image = next((root / "Visible").rglob("*.bmp"))
    image.write_bytes(image.read_bytes()[:100])
    page, usable = check_page(root, True)
    assert not usable
    assert image.name in text_of(page)


def test_wrong_counts_alone_may_be_allowed(tiny_regdb: Path, tmp_path: Path) -> None:
    root = tmp_path / "regdb"
    shutil.copytree(tiny_regdb, root)
    for marker in (p for p in root.iterdir() if p.is_file()):
        marker.unlink()  # no longer declared synthetic: the real counts hold
    page, usable = check_page(root, False)
    assert not usable
    assert "WRONG" in text_of(page)
    page, usable = check_page(root, True)
    assert usable
    assert "marked real-partial" in text_of(page)


def test_markdown_counts_the_parts_that_nobody_published() -> None:
    (line,) = [
        line for line in show.method_markdown().splitlines() if line.startswith("| `cluster-contrast`")
    ]
    rows = show.part_rows(load_method("cluster-contrast").reference)
    made_up = [part for part, source, _ in rows if source in ("ours", "adapted", "reconstructed")]
    assert f"| {len(made_up)} of {len(rows)} parts reconstructed |" in line
