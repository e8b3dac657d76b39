"""What a request comes to before anything of it is trained (``reidbench run --dry-run``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from json import dumps

from harness.registry import load_method
from harness.runs.estimate import Measured, hours_of, measured_runs
from harness.runs.task import Task
from harness.sweep.many import describe_task
from harness.sweep.requests import Failure
from harness.training.forecast import duration

WEIGHTS = {"resnet50": 23_600_000, "resnet18": 11_200_000}
"""Parameters of the trunks; two stems and heads add little."""
BYTES_A_WEIGHT = 12
"""Of a checkpoint: a weight and Adam's two moments, in float32."""


@dataclass(frozen=True)
class Outlook:
    """A run that would be trained.

    Attributes
    ----------
    state : str
        ``finished``, ``to resume`` or ``to do``.
    seconds : float or None
        What it would take from its beginning, by profiles of earlier runs; None if none is like it.
    size : int
        Bytes that its directory would take.
    """

    run: str
    method: str
    preset: str
    dataset: str
    split: int
    seed: int
    epochs: int
    iterations: int
    state: str
    seconds: float | None
    size: int
    path: str

    def __str__(self) -> str:
        long = f"about {duration(self.seconds)}" if self.seconds is not None else "time unknown"
        return (
            f"{self.run}  {self.method}  {self.dataset}  split {self.split}  seed {self.seed}  "
            f"{self.epochs} epochs, {self.iterations} iterations  {self.state}  {long}, {mib(self.size)}  {self.path}"
        )


def mib(size: float) -> str:
    """Return bytes as MiB or GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def total_words(runs: Sequence[Outlook]) -> str:
    """Say what all runs that are not finished take together."""
    waiting = [one for one in runs if one.state != "finished"]
    times = [one.seconds for one in waiting if one.seconds is not None]
    disk = mib(sum(one.size for one in waiting))
    if len(times) < len(waiting):
        unknown = f"for {len(waiting) - len(times)} of them no earlier run says how long"
        return f"{len(waiting)} runs to do, {disk} of disk; {unknown}"
    return f"{len(waiting)} runs to do: about {duration(sum(times))}, {disk} of disk (by profiles of earlier runs)"


def outlook(task: Task, measured: Sequence[Measured]) -> Outlook:
    """Say what a task would do, and how long by what was `measured`; no network is built for it."""
    spec, directory = task.spec, task.directory
    cls = load_method(spec.method)
    stages = cls.stages(cls.Config(**spec.config))
    state = "finished" if directory.complete else "to resume" if directory.last.exists() else "to do"
    hours = hours_of(task, measured)
    return Outlook(
        run=spec.id,
        method=spec.label,
        preset=spec.preset,
        dataset=spec.dataset,
        split=spec.split,
        seed=spec.seed,
        epochs=sum(stage.epochs for stage in stages),
        iterations=sum(stage.epochs * stage.iterations for stage in stages),
        state=state,
        seconds=None if hours is None else 3600 * hours,
        size=WEIGHTS.get(spec.engine["architecture"], 0) * BYTES_A_WEIGHT,
        path=str(directory.path),
    )


def look_ahead(tasks: Sequence[Task], *, json: bool) -> tuple[str, list[Failure]]:
    """Describe planned runs, a line each or as JSON, and what fails even at that."""
    found, failures = [], []
    measured = [one for out in {task.execution.out for task in tasks} for one in measured_runs(out)]
    for task in tasks:
        try:
            found.append(outlook(task, measured))
        except Exception as error:  # of a plug-in, perhaps; alone, it is raised as by a run
            if len(tasks) == 1:
                raise
            failures.append(Failure(describe_task(task), f"{error}" or type(error).__name__, 1))
    if json:
        return dumps({"runs": [asdict(one) for one in found]}, indent=2), failures
    return "\n".join([*map(str, found), total_words(found)]), failures
