"""The page of a protocol that ``reidbench show`` prints: rules in words, data set, counts, lists, version."""

from __future__ import annotations

import inspect
from collections import Counter
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from harness.registry import load_protocols
from harness.runs.data import find_root
from harness.tools.grid import text_grid
from protocols.base import Dataset, Protocol

CLOSED = (
    "closed division: 288 x 144 pixels, ResNet-50, features after the BNNeck averaged with the mirror's, no "
    "re-ranking, no further data. A run that departs from it is of the open division, which every table says."
)
"""What the two divisions are, in a sentence."""


def protocol_page(name: str, data: str | None = None) -> RenderableType:
    """Describe a protocol, or those that a union stands for.

    Parameters
    ----------
    data : str, optional
        A data root: adds what its lists hold.

    Raises
    ------
    HarnessError, DataError
        If there is no such protocol, or the root cannot be read.
    """
    pages: list[RenderableType] = []
    for protocol in load_protocols(name):
        pages += [Text(words(protocol)), counts_grid(protocol.dataset)]
        if data:
            pages.append(lists_grid(protocol, find_root(data, protocol, 0, lambda _line: None)))
    return Group(*pages)


def words(protocol: Protocol) -> str:
    """Say what a protocol measures and by which rules, from what its class and methods say of themselves."""
    dataset = protocol.dataset
    splits = len(dataset.splits)
    trained = (
        f"{splits} training splits, one a trial" if dataset.split_is_trial else f"{splits} training split"
    )
    lines = [
        f"{protocol.id}, version {protocol.version}: {protocol.summary}",
        *(f"  {label}: {sentence(text)}" for label, text in rules(protocol) if text),
        f"  training: {trained}; weights of one split are never tested on another",
        f"  trials of a complete result, each setting: {dataset.n_trials or 'not known'}",
        f"  epochs are picked (for the column best on test) by: mAP of {dataset.headline}",
        f"  {CLOSED}",
    ]
    if protocol.extra:
        lines.append("  extra: runs are scored under it too, tables have it with --protocol alone")
    if type(protocol).__module__.startswith("protocols."):
        lines.append("  more: docs/protocols.md")
    return "\n".join(lines)


def rules(protocol: Protocol) -> tuple[tuple[str, str | None], ...]:
    """Return what is written of the protocol, its trials and its scoring."""
    kind = type(protocol)
    return (
        ("what", inspect.getdoc(kind)),
        ("trials", inspect.getdoc(kind.trials)),
        ("scoring", inspect.getdoc(kind.score)),
    )


def sentence(text: str | None) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join((text or "").split("\n\n")[0].split())


def counts_grid(dataset: Dataset) -> RenderableType:
    """Return the counts of the real data set, as its full-size twin has them: images and people by camera."""
    shots = dataset.twin.full_size(0).shots
    images = Counter((shot.infrared, shot.camera) for shot in shots)
    people = {key: len({s.person for s in shots if (s.infrared, s.camera) == key}) for key in images}
    rows = [
        ("infrared" if infrared else "visible", str(camera), str(people[infrared, camera]), str(count))
        for (infrared, camera), count in sorted(images.items())
    ]
    title = f"{dataset.name}: {len(shots)} images of {len({shot.person for shot in shots})} people"
    return text_grid(title, ("modality", "camera", "people", "images"), rows)


def lists_grid(protocol: Protocol, root: Path) -> RenderableType:
    """Return what the lists of every trial on a data root hold."""
    rows = []
    for split in protocol.dataset.splits:
        for trial in protocol.trials(root, split, allow_partial=True):
            sizes = [
                f"{len(side.images.paths)} images of {len(set(side.identity.tolist()))}"
                for side in (trial.query, trial.gallery)
            ]
            rows.append((trial.setting, str(trial.number), *sizes, trial.gallery_rule))
    return text_grid(f"{protocol.id} at {root}", ("setting", "trial", "queries", "gallery", "rule"), rows)
