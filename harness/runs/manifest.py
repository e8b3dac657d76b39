"""A run's manifest: what was run, on what, where, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from harness.errors import HarnessError
from harness.runs.environment import manifest_environment
from harness.runs.run_spec import RunSpec
from harness.runs.task import Task

MANIFEST_VERSION = 2


@dataclass(frozen=True)
class Manifest:
    """What a task's manifest says besides the status.

    Attributes
    ----------
    weights : str
        Digest of the weights that training starts from; empty until they are loaded.
    device : str
        Where it runs; empty until the device is chosen.
    """

    task: Task
    weights: str = ""
    device: str = ""

    def write(self, status: Literal["running", "stopped", "complete"], reason: str = "") -> None:
        """Write ``manifest.json`` whole."""
        task, spec = self.task, self.task.spec
        task.directory.write_manifest(
            {
                "manifest_version": MANIFEST_VERSION,
                "run": spec.id,
                "spec": spec.model_dump(),
                "data_root": str(task.root.resolve()),
                "protocols": {protocol.id: protocol.version for protocol in task.protocols},
                "weights": {"name": spec.engine["weights"], "digest": self.weights},
                "environment": manifest_environment(),
                "device": self.device or task.execution.device,
                "status": status,
                "reason": reason,
                "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
        )


def spec_from_manifest(path: Path, manifest: Mapping[str, Any]) -> tuple[RunSpec, Path]:
    """Take the specification and the data root out of the manifest that was read from `path`.

    Raises
    ------
    HarnessError
        If it has another version, or its entries are damaged.
    """
    version = manifest.get("manifest_version")
    if version != MANIFEST_VERSION:
        raise HarnessError(
            f"{path} has manifest version {version!r}; this reidbench reads version {MANIFEST_VERSION}. "
            "Run it with the code that wrote it: its `environment` names commit and version."
        )
    root = manifest.get("data_root")
    if not isinstance(root, str):
        raise HarnessError(f"{path}: the entry `data_root` is missing or damaged; use an unchanged manifest")
    try:
        return RunSpec.model_validate(manifest["spec"]), Path(root)
    except ValidationError as error:
        problems = "; ".join(f"spec.{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise HarnessError(f"{path}: {problems}; use an unchanged manifest") from error
