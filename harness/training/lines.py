"""Lines of progress that fit a width: what must be seen stays, the rest follows by priority, no word is broken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.training.forecast import duration

GAP = "  "
LONGEST_BAR, SHORTEST_BAR = 24, 6


@dataclass(frozen=True)
class Standing:
    """Where a run stands.

    Attributes
    ----------
    number, epochs : int
        The epoch in progress, counted from 1, and how many there are.
    left, left_of_all : float or None
        Seconds of the run and of the whole request; None if not known yet.
    place : tuple of int
        Which run of how many.
    """

    number: int
    epochs: int
    stage: str
    left: float | None
    left_of_all: float | None
    place: tuple[int, int] = (1, 1)

    def words(self) -> tuple[str, ...]:
        """Return epoch, stage and both times left."""
        return (f"epoch {self.number} of {self.epochs}", self.stage, self._times("left"))

    def short_words(self) -> tuple[str, ...]:
        """Return the same for a narrow terminal."""
        return (f"{self.number} of {self.epochs}", self._times(""), self.stage)

    def _times(self, word: str) -> str:
        own = f"{duration(self.left)} {word}".strip()
        if self.place[1] == 1:
            return own
        return f"{own}, run {self.place[0]} of {self.place[1]}: {duration(self.left_of_all)} {word}".strip()


def joined(parts: Sequence[str], width: int | None) -> str:
    """Join as many parts as fit into a width, in their order; none is cut, and one too long is passed over."""
    line = ""
    for part in parts:
        longer = f"{line}{GAP}{part}" if line else part
        if part and (width is None or len(longer) <= width):
            line = longer
    return line


def with_bar(fixed: Sequence[str], done: float, further: Sequence[str], width: int) -> tuple[str, int, int]:
    """Return the text after a bar, and how long the bar and its filled part are.

    The bar shrinks before anything of `fixed` is lost.
    """
    needed = len(joined(fixed, None))
    if needed > width:
        return joined(fixed, width), 0, 0
    bar = min(LONGEST_BAR, width // 4, width - needed - len(GAP))
    bar = bar if bar >= SHORTEST_BAR else 0
    room = width - (bar + len(GAP) if bar else 0)
    return joined([*fixed, *further], room), bar, round(bar * min(max(done, 0.0), 1.0))


def by_priority(measured: Mapping[str, float]) -> Iterator[str]:
    """Yield what was measured of an epoch, the most telling first: score, loss, clusters, ARI, eps, then the terms."""
    losses = {k.removeprefix("loss_"): v for k, v in measured.items() if k.startswith("loss_")}
    if "test_mAP" in measured:
        yield f"test mAP {measured['test_mAP']:.2f}"
    if losses:
        yield f"loss {sum(losses.values()):.3f}"
    for beginnings, digits in ((("clusters_",), 0), (("ari_",), 2), (("eps",), 2), (("noise_",), 0)):
        for name, value in measured.items():
            if name.startswith(beginnings):
                yield f"{name.replace('_', ' ')} {value:.{digits}f}"
    yield from losses_by_priority(losses, whole=False)


def losses_by_priority(losses: Mapping[str, float], *, whole: bool = True) -> Iterator[str]:
    """Yield the sum of loss terms, then the terms in their order."""
    if whole and losses:
        yield f"loss {sum(losses.values()):.3f}"
    if len(losses) > 1:
        yield from (f"{name} {value:.3f}" for name, value in losses.items())
