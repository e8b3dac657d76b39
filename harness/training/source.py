"""Source training: what stands in for ImageNet weights where nothing can be downloaded.

A ResNet is trained to tell 300 synthetic people apart who appear in no twin, on visible renderings alone, with
strong colour, grey and gamma jitter: without that jitter the features carry nothing across modalities.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from harness.errors import HarnessError
from harness.runs.precision import source_precision, source_trunk
from harness.runs.seeds import seed_for
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


def train_source(architecture: str, height: int, width: int, reporter: Reporter) -> dict[str, Tensor]:
    """Train the source network; return the trunk's state dict in torchvision's names."""
    images, labels = render_source(IDENTITIES, IMAGES, SEED, size=(width, height))
    pixels = torch.from_numpy(images)
    target = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    generator = torch.Generator().manual_seed(seed_for(SEED, "source"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(SEED, "initialisation"))
        network = SourceNetwork(architecture, IDENTITIES).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=5e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, PEAK_RATE, total_steps=ITERATIONS, pct_start=0.2
    )
    order = torch.cat(
        [
            torch.randperm(len(target), generator=generator)
            for _ in range(ITERATIONS * BATCH // len(target) + 1)
        ]
    )
    network.train()
    bfloat16 = source_precision(architecture, height, width) == "bf16"
    for i in reporter.track(range(ITERATIONS), ITERATIONS, "source training"):
        rows = order[i * BATCH : (i + 1) * BATCH]
        raw = pixels[rows].permute(0, 3, 1, 2).float() / 255
        jittered = jitter(raw, generator).mul(255).round().byte()
        batch = normalise(jittered).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            loss = cross_entropy(network(batch), target[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if i % 10 == 0:
            reporter.live(f"loss {float(loss.detach()):.3f}")
    if not all(parameter.isfinite().all() for parameter in network.parameters()):
        raise HarnessError(
            f"the source training diverged (last loss {float(loss.detach())}); nothing was kept: "
            "give other weights by --set weights=PATH, or weights=none"
        )
    reporter.line(f"source training: last loss {float(loss.detach()):.3f}")
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.trunk.state_dict().items()
    }
