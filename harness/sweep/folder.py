"""The folder of a sweep: the specifications of its runs, their logs, and how they are started.

``<out>/sweeps/<name>-<digest>`` has ``specs/<run id>.json``, each enough for ``reidbench run --from``; ``specs.txt``
with a path a line, in the order of an array job; ``sweep.json`` with what is the same for all; ``logs/<run id>.log``
and ``.code``, the output and the exit code of each. Results are where those of any run are.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.runs.directory import RunDirectory
from harness.runs.files import write_atomic
from harness.runs.run_spec import RunSpec

if TYPE_CHECKING:
    from harness.runs.task import Execution

SETTINGS = "sweep.json"


@dataclass(frozen=True)
class Settings:
    """What is the same for all runs of a sweep, as ``sweep.json`` has it."""

    cwd: str
    out: str
    images: str
    device: str
    workers: int


@dataclass(frozen=True)
class Unit:
    """A run of a sweep.

    Attributes
    ----------
    place : int
        Its line in ``specs.txt``, and its task in an array job, from 0.
    """

    place: int
    spec: RunSpec
    file: Path
    run: Path

    def __str__(self) -> str:
        return f"{self.spec.label}, split {self.spec.split}, seed {self.spec.seed} (run {self.spec.id})"


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder, what is the same for all its runs, and the runs."""

    path: Path
    settings: Settings
    units: tuple[Unit, ...]

    @property
    def logs(self) -> Path:
        """Folder of the output of each run."""
        return self.path / "logs"

    def log(self, unit: Unit) -> Path:
        """Return the file with the output of a run."""
        return self.logs / f"{unit.spec.id}.log"

    def code(self, unit: Unit) -> Path:
        """Return the file with the exit code of a run."""
        return self.logs / f"{unit.spec.id}.code"

    def words(self, unit: Unit) -> list[str]:
        """Return the command of a run, without ``reidbench``."""
        s = self.settings
        where = ["--out", s.out, "--images", s.images, "--device", s.device, "--workers", str(s.workers)]
        return ["run", "--from", str(unit.file), *where]


def write_sweep(name: str, execution: Execution, specifications: Sequence[dict[str, Any]]) -> Sweep:
    """Write the folder of a sweep; the same runs have the same folder, in which logs and states stay.

    Parameters
    ----------
    execution : Execution
        How each run is executed.
    specifications : sequence of dict
        What :func:`~harness.runs.manifest.specification` gives for each run.
    """
    ids = [str(one["run"]) for one in specifications]
    key = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:8]
    path = (execution.out / "sweeps" / f"{plain(name)}-{key}").absolute()
    settings = Settings(
        cwd=os.getcwd(),  # noqa: PTH109 - as it is called, perhaps through a link
        out=str(execution.out.absolute()),
        images=str(execution.images.absolute()),
        device=execution.device,
        workers=execution.workers,
    )
    try:
        for folder in (path / "specs", path / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(
            f"cannot create the sweep's folder {path}: {error.strerror}; choose a writable folder with --out"
        ) from error
    files = [path / "specs" / f"{one}.json" for one in ids]
    for content, file in zip(specifications, files, strict=True):
        write_atomic(file, text_of(content))
    write_atomic(path / SETTINGS, text_of({"runs": len(files), **asdict(settings)}))
    write_atomic(path / "specs.txt", "".join(f"{file}\n" for file in files).encode())
    return read_sweep(path)


def plain(name: str) -> str:
    """Return a name of letters, digits and dashes, for a folder."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:60] or "sweep"


def text_of(content: dict[str, Any]) -> bytes:
    """Return JSON for people and programs."""
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def read_sweep(path: Path) -> Sweep:
    """Read the folder of a sweep.

    Raises
    ------
    HarnessError
        If it is none, or a file of it is damaged.
    """
    try:
        content = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
        settings = Settings(**{name: content[name] for name in Settings.__dataclass_fields__})
        lines = (path / "specs.txt").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise HarnessError(
            f"{path} is no folder of a sweep: it has no {Path(error.filename).name}; `reidbench sweep run` and "
            "`sweep slurm` make one, below OUT/sweeps"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HarnessError(f"{path} is damaged ({error}); the command that made it makes it anew") from error
    units = [unit_of(place, path / "specs" / Path(line).name, settings) for place, line in enumerate(lines)]
    return Sweep(path.absolute(), settings, tuple(units))


def unit_of(place: int, file: Path, settings: Settings) -> Unit:
    """Read the specification of a run."""
    try:
        spec = RunSpec.model_validate(json.loads(file.read_text(encoding="utf-8"))["spec"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HarnessError(f"{file} is damaged ({error}); the command that made it makes it anew") from error
    return Unit(place, spec, file.absolute(), RunDirectory(Path(settings.out), spec).path)
