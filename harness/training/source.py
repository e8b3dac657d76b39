"""Source training: what stands in for ImageNet weights where nothing can be downloaded.

A ResNet is trained to tell 300 synthetic people apart who appear in no twin, on visible renderings alone, with
strong colour, grey and gamma jitter: without that jitter the features carry nothing across modalities.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from harness.errors import HarnessError
from harness.runs.precision import source_precision, source_trunk
from harness.runs.seeds import seed_for
from harness.runs.stopping import Stopped, unbroken
from harness.training.checkpoint import load_checkpoint, optimiser_state, restore_optimiser, save_checkpoint
from harness.training.progress import Reporter
from methods.parts.backbone import gem
from methods.parts.views import normalise
from protocols.synthetic.source import render_source

IDENTITIES, IMAGES = 300, 12
ITERATIONS, BATCH = 200, 64
PEAK_RATE = 1.5e-3
SCALE = 16.0
"""Scale of the cosine logits; without it this short training barely converges."""
SEED = 20241211
SAVE_EVERY_S = 60.0
"""Seconds of training that a killed process may lose."""


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Randomise colour, grey, gamma, mirror and place of images (b, 3, h, w) in [0, 1]."""
    b = len(images)

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(b, *shape, generator=generator)

    mixed = images * draw(0.4, 1.6, 3, 1, 1)
    mixing = torch.softmax(3 * torch.randn(b, 3, generator=generator), dim=1)
    grey = (images * mixing[:, :, None, None]).sum(1, keepdim=True).expand_as(images)
    mixed = torch.where(draw(0, 1, 1, 1, 1) < 0.5, grey, mixed).clamp(0, 1)
    mixed = mixed.pow(draw(0.5, 2.0, 1, 1, 1)) * draw(0.6, 1.3, 1, 1, 1) + draw(-0.1, 0.1, 1, 1, 1)
    mixed = torch.where(draw(0, 1, 1, 1, 1) < 0.5, mixed.flip(3), mixed)
    reach = images.shape[2] // 24
    shift = torch.randint(-reach, reach + 1, (2,), generator=generator)
    return mixed.roll((int(shift[0]), int(shift[1])), (2, 3)).clamp(0, 1)


class SourceNetwork(nn.Module):
    """The two-stream network's visible half, with a classifier."""

    def __init__(self, architecture: str, identities: int) -> None:
        super().__init__()
        self.trunk = source_trunk(architecture)
        width = 2048 if architecture == "resnet50" else 512
        self.neck = nn.BatchNorm1d(width)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(width, identities, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return scaled cosines (b, identities), float32."""
        t = self.trunk
        x = t.maxpool(t.relu(t.bn1(t.conv1(images))))
        x = t.layer4(t.layer3(t.layer2(t.layer1(x))))
        features = normalize(self.neck(gem(x)).float())
        with torch.autocast("cpu", enabled=False):
            return SCALE * features @ normalize(self.classifier.weight).T


class SourceTraining:
    """The training of a source network, wherever between two iterations it stands.

    Attributes
    ----------
    done : int
        Finished iterations.
    whole : bool
        Whether none is in progress.
    loss : float
        Of the last one.
    """

    def __init__(self, architecture: str, height: int, width: int) -> None:
        images, labels = render_source(IDENTITIES, IMAGES, SEED, size=(width, height))
        self.pixels = torch.from_numpy(images)
        self.target = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self.generator = torch.Generator().manual_seed(seed_for(SEED, "source"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(SEED, "initialisation"))
            self.network = SourceNetwork(architecture, IDENTITIES).to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=PEAK_RATE, weight_decay=5e-4, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, PEAK_RATE, total_steps=ITERATIONS, pct_start=0.2
        )
        people = len(self.target)
        drawn = [
            torch.randperm(people, generator=self.generator) for _ in range(ITERATIONS * BATCH // people + 1)
        ]
        self.order = torch.cat(drawn)
        self.bfloat16 = source_precision(architecture, height, width) == "bf16"
        self.network.train()
        self.done, self.whole, self.loss = 0, True, float("nan")

    def step(self) -> None:
        """Train one iteration; a signal waits for its end."""
        with unbroken():
            self.whole = False
            rows = self.order[self.done * BATCH : (self.done + 1) * BATCH]
            raw = self.pixels[rows].permute(0, 3, 1, 2).float() / 255
            jittered = jitter(raw, self.generator).mul(255).round().byte()
            batch = normalise(jittered).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bfloat16):
                loss = cross_entropy(self.network(batch), self.target[rows])
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            self.schedule.step()
            self.loss = float(loss.detach())
            self.done, self.whole = self.done + 1, True

    def state(self) -> dict[str, Any]:
        """Return what a later process needs to go on."""
        return {
            "done": self.done,
            "network": dict(self.network.state_dict()),
            "optimiser": optimiser_state(self.optimiser),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state(self, saved: dict[str, Any]) -> None:
        """Undo :meth:`state`."""
        self.network.load_state_dict(saved["network"])
        restore_optimiser(self.optimiser, saved["optimiser"])
        for parameter, kept in self.optimiser.state.items():
            for name, value in kept.items():
                if (
                    value.shape == parameter.shape
                ):  # the fused step goes through both in the parameter's layout
                    kept[name] = torch.empty_like(parameter).copy_(value)
        self.schedule.load_state_dict(saved["schedule"])
        self.generator.set_state(saved["generator"])
        self.done = saved["done"]


def train_source(
    architecture: str, height: int, width: int, reporter: Reporter, kept: Path
) -> dict[str, Tensor]:
    """Train the source network; return the trunk's state dict in torchvision's names.

    Parameters
    ----------
    kept : Path
        Checkpoint of a training that was stopped; it is gone on with, written once a minute and when the process is
        asked to stop, and left to who keeps the result.

    Raises
    ------
    HarnessError
        If the training diverged.
    """
    training = SourceTraining(architecture, height, width)
    begin_from(kept, training, reporter)
    saved = time.monotonic()
    try:
        for i in reporter.track(
            range(training.done, ITERATIONS), ITERATIONS - training.done, "source training"
        ):
            training.step()
            if i % 10 == 0:
                reporter.live({"loss": training.loss})
            if time.monotonic() - saved > SAVE_EVERY_S:
                save_checkpoint(kept, training.state())
                saved = time.monotonic()
    except Stopped:
        if training.whole and training.done:
            save_checkpoint(kept, training.state())
            reporter.line(
                f"the source training was stopped; {training.done} of its {ITERATIONS} iterations are kept in {kept}, "
                "and the same command goes on from there"
            )
        raise
    if not all(parameter.isfinite().all() for parameter in training.network.parameters()):
        kept.unlink(missing_ok=True)
        raise HarnessError(
            f"the source training diverged (last loss {training.loss}); nothing was kept: "
            "give other weights by --set weights=PATH, or weights=none"
        )
    reporter.line(f"source training: last loss {training.loss:.3f}")
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in training.network.trunk.state_dict().items()
    }


def begin_from(kept: Path, training: SourceTraining, reporter: Reporter) -> None:
    """Go on with a training that was stopped, if there is one and its checkpoint is whole."""
    if not kept.is_file():
        return
    try:
        saved = load_checkpoint(kept)
    except HarnessError as error:
        reporter.line(f"{error}: the source training begins again")
        return
    training.load_state(saved)
    reporter.line(f"going on with the source training after {training.done} of {ITERATIONS} iterations")
