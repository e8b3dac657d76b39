"""One training epoch, and feature extraction, on one device in one precision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from harness.errors import HarnessError
from harness.inputs.batches import EpochBatches
from harness.inputs.store import ImageStore
from harness.runs.configuration import EngineConfig
from harness.runs.stopping import unbroken
from harness.training.fabric import make_fabric
from harness.training.progress import Reporter
from methods.base import Batch, Epoch, EpochPlan, Method, Optimisation, Part, timed
from methods.parts.backbone import embed
from methods.parts.views import normalise

READ_EVERY = 10
"""Iterations between two looks at the losses, for which the host waits until the device has caught up."""
CPU_IMAGES, CPU_PIXELS = 8, 2**17
"""At least so many images, or as many as have so many pixels, in a forward pass on a CPU."""


class Engine:
    """Runs networks on its device, in its precision and memory format."""

    def __init__(self, config: EngineConfig, device: str, workers: int, reporter: Reporter) -> None:
        self.config = config
        self.fabric = make_fabric(device, config.precision)
        self.workers = workers
        self.reporter = reporter
        # CUDA has fast convolutions of half precision on channels last
        half_on_cuda = self.device.type == "cuda" and config.precision != "32"
        last = config.channels_last or half_on_cuda
        self.layout = torch.channels_last if last else torch.contiguous_format

    @property
    def device(self) -> torch.device:
        """Where tensors live."""
        return self.fabric.device

    def wait(self) -> None:
        """Let the device catch up, for a clock to be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def place(self, method: Method) -> None:
        """Move a method's networks to the device."""
        for name, module in method.modules.items():
            placed: nn.Module = module.to(self.device)
            if self.layout == torch.channels_last:
                placed = placed.to(memory_format=torch.channels_last)
            method.modules[name] = placed

    def wrap(self, made: Mapping[str, Optimisation]) -> dict[str, Optimisation]:
        """Return optimisers wrapped for the precision; on CUDA each steps in one kernel, by the same formula."""
        for one in made.values():
            if self.device.type == "cuda" and isinstance(one.optimiser, Adam | SGD):
                for group in one.optimiser.param_groups:
                    group["fused"] = True
        return {
            name: replace(one, optimiser=cast(Optimizer, self.fabric.setup_optimizers(one.optimiser)))
            for name, one in made.items()
        }

    def extract(
        self,
        backbone: nn.Module,
        store: ImageStore,
        modality: np.ndarray,
        what: str,
        *,
        renormalise: bool = True,
        feature: Literal["post-bn", "pooled"] = "post-bn",
        flip: bool = True,
    ) -> Tensor:
        """Extract features (n, d), float32 on the device, in evaluation mode; unit rows if `renormalise`.

        `feature` says which: those after the BNNeck, or the pooled ones before it. Without `flip` they are not averaged
        with their mirrors', whatever the configuration says.
        """
        backbone.eval()
        flip = flip and self.config.flip
        size = extraction_batch(self.config, self.device, flip=flip)
        blocks = range(0, len(store), size)
        features = []
        with torch.inference_mode():
            for start in self.reporter.track(blocks, len(blocks), what):
                rows = np.arange(start, min(start + size, len(store)))
                images = normalise(store.take(rows, self.device))
                kind = torch.from_numpy(modality[rows])
                with self.fabric.autocast():
                    features.append(
                        embed(
                            backbone,
                            images.contiguous(memory_format=self.layout),
                            kind,
                            flip=flip,
                            renormalise=renormalise,
                            feature=feature,
                        )
                    )
        # a clone made outside inference mode may take part in autograd
        return torch.cat(features).float().clone()

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
        sums: dict[str, Tensor] = {}
        what = f"{epoch.phase.name} batch"
        drawn = batches.parts(self.workers, self.device)
        for i, parts in enumerate(self.reporter.track(drawn, len(batches), what)):
            with unbroken():
                placed = {name: self._formatted(part) for name, part in parts.items()}
                seen: dict[str, Any] = {}
                terms: dict[str, Tensor] = {}
                for step in plan.steps:
                    batch = Batch(step.name, i, {name: placed[name] for name in step.streams})
                    if step.optimiser is None:
                        self._look(method, batch, epoch)
                        continue
                    # one forward pass may serve two steps on the same images
                    seen[step.name] = seen[step.reuses] if step.reuses else self._forward(method, batch)
                    optimisation = optimisations[step.optimiser]
                    terms = self._step(method, seen[step.name], batch, epoch, optimisation)
                    for name, value in terms.items():
                        sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value
                if i % READ_EVERY == 0:
                    shown = self._read(terms, epoch, i)
                    self.reporter.live(shown)
        total = self._read(sums, epoch, len(batches) - 1)  # NaN stays in a sum
        return {name: value / len(batches) for name, value in total.items()}

    def _formatted(self, part: Part) -> Part:
        return replace(part, images=part.images.contiguous(memory_format=self.layout))

    def _forward(self, method: Method, batch: Batch) -> Any:
        with timed("forward"), self.fabric.autocast():
            return method.forward(batch)

    def _step(
        self, method: Method, seen: Any, batch: Batch, epoch: Epoch, optimisation: Optimisation
    ) -> dict[str, Tensor]:
        """Differentiate the loss, move the parameters of one optimiser, then the memories."""
        optimisation.optimiser.zero_grad(set_to_none=True)
        with timed("loss"), self.fabric.autocast():
            terms = dict(method.loss(seen, batch, epoch))
            total = torch.stack(list(terms.values())).sum()
        with timed("backward"):
            self.fabric.backward(total)
        with timed("optimiser"):
            optimisation.optimiser.step()
        self._update(method, seen, batch, epoch)
        return {name: value.detach() for name, value in terms.items()}

    def _look(self, method: Method, batch: Batch, epoch: Epoch) -> None:
        """Let the networks see a batch; no parameter moves."""
        with torch.no_grad():
            self._update(method, self._forward(method, batch), batch, epoch)

    def _update(self, method: Method, seen: Any, batch: Batch, epoch: Epoch) -> None:
        """Move the memories."""
        with timed("update"), torch.no_grad():
            method.update(seen, batch, epoch)

    def _read(self, terms: Mapping[str, Tensor], epoch: Epoch, iteration: int) -> dict[str, float]:
        """Fetch losses from the device, all in one wait, and refuse those that are not finite."""
        values = torch.stack([*terms.values()]).tolist() if terms else []
        found = dict(zip(terms, values, strict=True))
        if bad := [name for name, value in found.items() if not math.isfinite(value)]:
            raise HarnessError(
                f"the loss {', '.join(bad)} is not finite in epoch {epoch.number}, by iteration {iteration}; "
                "lower learning_rate, or use --precision 32"
            )
        return found

    @staticmethod
    def negated_products(query: Tensor, gallery: Tensor) -> np.ndarray | Tensor:
        """Return -(Q Gᵀ) in float64 as the public evaluation code does: on a GPU where it is, on the CPU as an array.

        Neither is a copy; protocols score an array by compiled loops and a tensor on its device.
        """
        product = torch.matmul(query.double(), gallery.double().T).neg_()
        return product.numpy() if product.device.type == "cpu" else product


def extraction_batch(config: EngineConfig, device: torch.device, *, flip: bool) -> int:
    """Return how many images a forward pass of extraction takes; with `flip`, each goes with its mirror.

    On a CPU, what a layer makes of few images stays in its caches; a GPU is only filled by many.
    """
    size = config.extract_batch
    if not size:
        size = max(CPU_IMAGES, CPU_PIXELS // (config.height * config.width)) if device.type == "cpu" else 256
    return max(size // 2, 1) if flip else size
