"""What a person asks of ``reidbench figure``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HarnessError
from harness.tools.tables import checkpoint_rule, chosen_runs
from results import Run, find_runs
from results.schema import Checkpoint


@dataclass(frozen=True)
class Queries:
    """Which queries a ranked sheet shows.

    Attributes
    ----------
    how : str
        ``random``, ``worst`` or ``difference``.
    count, seed : int
    setting : str, optional
    """

    how: str = "random"
    count: int = 4
    seed: int = 0
    setting: str | None = None


@dataclass(frozen=True)
class Sources:
    """Where images and features come from.

    Attributes
    ----------
    features : Path, optional
        ``.npz`` of ``reidbench extract``, in place of a run.
    data : str, optional
        Root of the data; by default the manifest's.
    device : str
        By default (empty) the manifest's.
    images : Path
        Folder of decoded images.
    """

    features: Path | None = None
    data: str | None = None
    device: str = ""
    images: Path = Path("data") / "images"


@dataclass(frozen=True)
class Wanted:
    """What a person asks for.

    Attributes
    ----------
    named : tuple of str
        What stands behind the kind: run directories as a rule, the method of ``schedule``, the CSV of ``scaling``.
    columns : int
        Width, in columns of a paper.
    metric, reference, checkpoint, protocol
        Of comparisons and curves, as ``compare`` takes them; `protocol` keeps one of several.
    preset : str
        Of ``schedule``.
    queries, sources
        Of ranked lists and of features.
    by : str
        Of ``embedding``: ``pca`` or ``tsne``.
    sets : tuple of str
        Of ``split``: how to cluster, as ``reidbench cluster`` takes it.
    where, labels : tuple of str
        Of runs, as :func:`results.find_runs` takes them.
    """

    named: tuple[str, ...]
    columns: int = 1
    metric: str = "mAP"
    reference: str | None = None
    checkpoint: str = "last"
    protocol: str | None = None
    preset: str = "paper"
    queries: Queries = field(default_factory=Queries)
    sources: Sources = field(default_factory=Sources)
    by: str = "pca"
    sets: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def rule(self) -> Checkpoint:
        """The checkpoint rule; see :func:`harness.tools.tables.checkpoint_rule`."""
        return checkpoint_rule(self.checkpoint)


def runs_of(wanted: Wanted) -> tuple[Run, ...]:
    """Read the finished runs that were named, with the rows of one protocol if one was named.

    Raises
    ------
    HarnessError
        If none was named, or none was scored under the protocol.
    """
    if not wanted.named:
        raise HarnessError("which runs? Give run directories, or folders of them, as `runs`")
    runs = find_runs([Path(name) for name in wanted.named], wanted.where, wanted.labels).runs
    return chosen_runs(runs, wanted.protocol)
