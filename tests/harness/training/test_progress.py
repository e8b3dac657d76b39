"""Lines of progress at every width, and the time that is left."""

from __future__ import annotations

import io
import random
import time
from pathlib import Path

import pytest
from numba import njit
from rich.console import Console

from harness.training.forecast import Forecast, Work, duration
from harness.training.kernels import on_compilation
from harness.training.lines import Standing, by_priority, joined, losses_by_priority
from harness.training.progress import Bar, Reporter, Screen

STAGE = "intra-modality"
MEASURED = {
    "eps": 0.5432,
    "clusters_joint": 1203,
    "clusters_visible": 395,
    "noise_joint": 12,
    "ari_joint": 0.71,
    "loss_instance": 1.5,
    "loss_prototype_visible": 2.25,
    "loss_prototype_infrared": 1.0,
    "test_mAP": 41.237,
}
STANDING = Standing(8, 10, STAGE, 201.0, 7384.0, (2, 5))


def drawn(screen: Screen, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    return ["".join(one.text for one in line).rstrip() for line in console.render_lines(screen, pad=False)]


def words_of(parts: tuple[str, ...]) -> set[str]:
    return {word for part in parts for word in part.split()}


@pytest.mark.parametrize("width", [*range(30, 160), 200])
def test_a_line_keeps_epoch_stage_and_times_at_every_width(width: int) -> None:
    losses = {k.removeprefix("loss_"): v for k, v in MEASURED.items() if k.startswith("loss_")}
    bar = Bar("train batch", 200, time.monotonic(), 12, tuple(losses_by_priority(losses)))
    screen = Screen(STANDING, 1e12, tuple(by_priority(MEASURED)), (bar,))
    run, batch = drawn(screen, width)
    assert max(len(run), len(batch)) <= width
    shown = set(run.replace("━", " ").replace("─", " ").split())
    assert shown <= words_of((*STANDING.words(), *STANDING.short_words(), *by_priority(MEASURED)))
    for part in ("8 of 10", STAGE, "3:21", "2 h 03") if width >= 55 else STANDING.short_words()[:1]:
        assert part in run
    if width >= 80:
        assert "━" in run
        for part in STANDING.words():
            assert part in run
    assert "train batch 12 of 200" in batch
    assert "loss 4.750" in batch or width < 70


def test_what_fits_is_taken_by_priority_and_never_cut() -> None:
    parts = ["epoch 1 of 2", "test mAP 41.24", "loss 4.750", "eps 0.54"]
    for width in range(80):
        line = joined(parts, width)
        assert len(line) <= width
        assert set(line.split("  ")) <= {*parts, ""}
    assert joined(parts, None) == "  ".join(parts)


def test_elsewhere_than_on_a_terminal_and_in_the_log_lines_are_whole(tmp_path: Path) -> None:
    shown = io.StringIO()
    reporter = Reporter(Console(file=shown, width=80)).with_log(tmp_path / "log.txt")
    reporter.forecast.expect(Work("r", "dmic", ((STAGE, 5),) * 10))
    with reporter.bars():
        for number in range(2):
            reporter.begin_epoch("r", number, 10, STAGE)
            assert list(reporter.track(range(3), 3, "train batch")) == [0, 1, 2]
            reporter.end_epoch("r", number, 10, STAGE, MEASURED)
    lines = shown.getvalue().splitlines()
    assert len(lines) == 2
    for part in by_priority(MEASURED):
        assert part in lines[1]
    assert lines[1].startswith(f"epoch 2 of 10  {STAGE}  0:0")
    assert (tmp_path / "log.txt").read_text().splitlines() == lines


def test_on_a_terminal_a_finished_epoch_is_one_line() -> None:
    shown = io.StringIO()
    reporter = Reporter(Console(file=shown, width=80, force_terminal=True, color_system=None))
    reporter.begin_epoch("r", 0, 10, STAGE)
    reporter.end_epoch("r", 0, 10, STAGE, MEASURED)
    (line,) = shown.getvalue().splitlines()
    assert len(line) <= 80
    assert "test mAP 41.24  loss 4.750" in line
    assert "? left" in line


def slow_left(works: list[Work], done: dict[str, int], times: list[tuple[str, str, int, float]]) -> float:
    """Add up, epoch by epoch, what the latest of its stage took on average, else by iterations."""
    total = 0.0
    for work in works:
        for stage, iterations in work.epochs[done.get(work.run, 0) :]:
            latest = [t for method, name, _, t in times if (method, name) == (work.method, stage)][-5:]
            like = [one for one in times if one[0] == work.method] or times
            rate = sum(one[3] for one in like) / sum(one[2] + 1 for one in like)
            total += sum(latest) / len(latest) if latest else rate * (iterations + 1)
    return total


def test_time_left_is_that_of_measured_epochs() -> None:
    draw = random.Random(0)
    works = [
        Work("a", "dmic", (("one", 5),) * 4 + (("two", 9),) * 3),
        Work("b", "dmic", (("one", 5),) * 2 + (("three", 1),) * 2),
        Work("c", "pgm", (("one", 50),) * 3),
    ]
    forecast = Forecast(list(works))
    assert forecast.left("a") is None
    times = []
    for number, (stage, iterations) in enumerate(works[0].epochs):
        seconds = draw.random()
        forecast.add("a", number, seconds)
        times.append(("dmic", stage, iterations, seconds))
        assert forecast.left_of_all() == pytest.approx(slow_left(works, {"a": number + 1}, times))
        assert forecast.left("b") == pytest.approx(slow_left(works[1:2], {}, times))
    assert forecast.left("a") == 0
    forecast.finish("a")
    forecast.finish("c")
    assert forecast.left_of_all() == pytest.approx(slow_left(works[1:2], {}, times))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0, "0:00"), (59.6, "1:00"), (760, "12:40"), (7384, "2 h 03"), (190_000, "2 d 4 h")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_compiling_is_told_when_something_is_compiled_and_only_then() -> None:
    @njit
    def double(x: int) -> int:
        return 2 * x

    said = []
    for _ in range(2):
        with on_compilation(lambda: said.append("compiling")):
            assert double(4) == 8
    assert said == ["compiling"]
