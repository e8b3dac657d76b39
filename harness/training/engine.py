"""One training epoch, and feature extraction; devices and precision by Lightning Fabric."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numba
import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from harness.errors import HarnessError
from harness.inputs.batches import EpochBatches, ImageStore
from harness.runs.configuration import EngineConfig
from harness.training.progress import Reporter
from methods.base import NO_OPTIMISER, Batch, Epoch, EpochPlan, Method, Optimisation, Part
from methods.parts.backbone import embed
from methods.parts.views import normalise

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def choose_device(device: str, precision: str) -> tuple[str, str]:
    """Return kind (``cpu`` or ``cuda``) and number (empty: any) of a device; ``auto`` is CUDA where there is one.

    Raises
    ------
    HarnessError
        If CUDA is asked for and absent, or the device has no such name.
    """
    kind, _, number = device.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise HarnessError(f"--device {device}: expected cpu, cuda, cuda:N or auto")
    if kind == "cuda" and not torch.cuda.is_available():
        raise HarnessError(
            "--device cuda: no CUDA device is visible; `reidbench doctor` says why, --device cpu works"
        )
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise HarnessError(
            f"--device {device}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0"
        )
    if kind == "cpu" and precision == "16":
        raise HarnessError("--precision 16 needs a CUDA device; use bf16 or 32 on the CPU")
    return kind, number


def make_fabric(device: str, precision: str) -> Fabric:
    """Launch Fabric on one device, as :func:`choose_device` names it.

    This is the one place that sets global switches: deterministic algorithms, no TF32, no cuDNN search.

    Raises
    ------
    HarnessError
        If there is no such device.
    """
    kind, number = choose_device(device, precision)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    share_threads()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    devices = [int(number)] if kind == "cuda" and number else 1
    fabric = Fabric(accelerator=kind, devices=devices, precision=PRECISIONS[precision])  # type: ignore[arg-type]
    fabric.launch()
    return fabric


def share_threads() -> None:
    """Let torch and numba use equally many threads.

    Both stand on one OpenMP runtime, whose number of threads numba sets for torch too when it starts: without
    this, results would depend on whether a process has clustered yet, and ``OMP_NUM_THREADS`` would be ignored
    from then on.
    """
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    numba.set_num_threads(threads)  # starts numba's threads, so torch's number comes second
    torch.set_num_threads(threads)


class Engine:
    """Runs networks: the only object that knows device, precision and memory format."""

    def __init__(self, config: EngineConfig, device: str, workers: int, reporter: Reporter) -> None:
        self.config = config
        self.fabric = make_fabric(device, config.precision)
        self.workers = workers
        self.reporter = reporter
        self._format = torch.channels_last if config.channels_last else torch.contiguous_format

    @property
    def device(self) -> torch.device:
        """Where tensors live."""
        return self.fabric.device

    def place(self, method: Method) -> None:
        """Move a method's networks to the device."""
        for name, module in method.modules.items():
            placed: nn.Module = module.to(self.device)
            if self.config.channels_last:
                placed = placed.to(memory_format=torch.channels_last)
            method.modules[name] = placed

    def extract(
        self,
        backbone: nn.Module,
        store: ImageStore,
        modality: np.ndarray,
        what: str,
        *,
        renormalise: bool = True,
    ) -> Tensor:
        """Extract features (n, d), float32 on the device, in evaluation mode; unit rows if `renormalise`."""
        backbone.eval()
        size = self.config.extract_batch
        blocks = range(0, len(store), size)
        found = []
        with torch.inference_mode():
            for start in self.reporter.track(blocks, len(blocks), what):
                rows = np.arange(start, min(start + size, len(store)))
                images = normalise(torch.from_numpy(store[rows])).to(self.device)
                kind = torch.from_numpy(modality[rows]).to(self.device)
                with self.fabric.autocast():
                    found.append(
                        embed(
                            backbone,
                            images.contiguous(memory_format=self._format),
                            kind,
                            flip=self.config.flip,
                            renormalise=renormalise,
                        )
                    )
        # a clone made outside inference mode may take part in autograd
        return torch.cat(found).float().clone()

    def train_epoch(
        self,
        method: Method,
        plan: EpochPlan,
        epoch: Epoch,
        optimisations: Mapping[str, Optimisation],
        batches: EpochBatches,
    ) -> dict[str, float]:
        """Train one epoch (phase); return the mean of every loss term.

        Raises
        ------
        HarnessError
            If the loss becomes NaN or infinite; names epoch, iteration and term.
        """
        for module in method.modules.values():
            module.train()
        loader = DataLoader(batches, batch_size=None, shuffle=False, num_workers=self.workers)
        sums: dict[str, Tensor] = {}
        what = f"epoch {epoch.number} {epoch.phase}"
        for i, parts in enumerate(self.reporter.track(loader, len(batches), what)):
            placed = {name: self._place_part(part) for name, part in parts.items()}
            for step in plan.steps:
                batch = Batch(step.name, i, {name: placed[name] for name in step.streams})
                if step.optimiser == NO_OPTIMISER:
                    terms = self._look(method, batch, epoch)
                else:
                    terms = self._step(method, batch, epoch, optimisations[step.optimiser])
                for name, value in terms.items():
                    sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value
            if i % 10 == 0:
                self._check(terms, epoch, i)
                self.reporter.live("  ".join(f"{name} {float(v):.3f}" for name, v in terms.items()))
        self._check(sums, epoch, len(batches) - 1)  # NaN stays in a sum
        return {name: float(value) / len(batches) for name, value in sums.items()}

    def _place_part(self, part: Part) -> Part:
        images = part.images.to(self.device, non_blocking=True).contiguous(memory_format=self._format)
        moved = {
            name: getattr(part, name).to(self.device, non_blocking=True)
            for name in ("modality", "camera", "label", "index", "view")
        }
        return replace(part, images=images, **moved)

    def _step(
        self, method: Method, batch: Batch, epoch: Epoch, optimisation: Optimisation
    ) -> dict[str, Tensor]:
        optimisation.optimiser.zero_grad(set_to_none=True)
        with self.fabric.autocast():
            terms = dict(method.loss(batch, epoch))
        total = torch.stack(list(terms.values())).sum()
        self.fabric.backward(total)
        optimisation.optimiser.step()
        with torch.no_grad():
            method.update(batch, epoch)
        return {name: value.detach() for name, value in terms.items()}

    def _look(self, method: Method, batch: Batch, epoch: Epoch) -> dict[str, Tensor]:
        with torch.no_grad(), self.fabric.autocast():
            return dict(method.loss(batch, epoch))

    def _check(self, terms: Mapping[str, Tensor], epoch: Epoch, iteration: int) -> None:
        bad = [name for name, value in terms.items() if not torch.isfinite(value)]
        if bad:
            raise HarnessError(
                f"the loss {', '.join(bad)} is not finite in epoch {epoch.number}, by iteration {iteration}; "
                "lower learning_rate, or use --precision 32"
            )

    def distances(self, query: Tensor, gallery: Tensor) -> np.ndarray | Tensor:
        """Return -(Q Gᵀ) in float64 (protocols-spec 3.1): on a GPU where it is, on the CPU as an array.

        Neither is a copy; protocols score an array by compiled loops and a tensor on its device.
        """
        product = torch.matmul(query.double(), gallery.double().T).neg_()
        return product.numpy() if product.device.type == "cpu" else product


def distinct(names: Sequence[Sequence[str]]) -> list[str]:
    """Return the distinct names of several lists, in order of first appearance."""
    return list(dict.fromkeys(name for group in names for name in group))
