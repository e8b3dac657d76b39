"""Times what a method does at the beginning of an epoch, stage by stage (``reidbench time --what association``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch

from harness.errors import HarnessError
from harness.registry import load_method
from harness.runs.configuration import resolve, split_variant
from harness.runs.seeds import seed_for
from harness.tools.time import SEARCH, Plan, Say, repeated, synthetic_features, warm_up
from methods.base import Epoch, FeatureBank, Method, MethodConfig, TrainingData
from methods.errors import MethodError

ASSOCIATION = ("associate", "refine")
"""Stages of association and of labels that it changes, as methods name them."""
VISIBLE_SHARE = 22_258 / 34_167
"""Of the images: that of the largest training set known here."""
CAMERAS = (4, 2)
"""Of visible and of infrared images."""


def parse_methods(text: str) -> list[str]:
    """Return comma-separated methods, with their variants; each must exist."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        settings_of(name)
    return names


def settings_of(name: str) -> tuple[type[Method], MethodConfig]:
    """Return a method and its settings, those that it has without a data set."""
    method, variant = split_variant(name)
    cls = load_method(method)
    return cls, resolve(cls, "", "paper", variant, [])[0]


def synthetic_bank(n: int, dim: int, seed: int, device: torch.device) -> FeatureBank:
    """Make features of people whom both modalities see, visible images first."""
    generator = torch.Generator().manual_seed(seed)
    modality = (torch.arange(n) >= round(VISIBLE_SHARE * n)).long()
    draws = torch.rand(n, generator=generator)
    camera = (draws * torch.tensor(CAMERAS)[modality]).long() + modality * CAMERAS[0] + 1
    features = synthetic_features(n, dim, seed)
    return FeatureBank(*(value.to(device) for value in (features, modality, camera, torch.arange(n))))


def measure_methods(
    plan: Plan, names: Sequence[str], sizes: Sequence[int], device: torch.device, say: Say
) -> pd.DataFrame:
    """Time the beginning of the last stage of every method at every size.

    Returns
    -------
    DataFrame
        As :func:`harness.tools.time.repeated`, with n and implementation (the method).

    Raises
    ------
    HarnessError
        If a method refuses so few samples.
    """
    warm_up(plan, device)
    parts = []
    for n in sizes:
        bank = synthetic_bank(n, plan.dim, plan.seed, device)
        for name in names:
            try:
                found, frame = repeated(partial(first_epoch, name, bank, plan.seed), plan.repeat, device)
            except MethodError as error:
                raise HarnessError(f"--method {name} --n {n}: {error}") from error
            parts.append(frame.assign(n=n, implementation=name))
            say(f"{name}, n {n}: {found.skipped or association(frame)}")
    return pd.concat(parts, ignore_index=True)


def first_epoch(name: str, bank: FeatureBank, seed: int) -> Callable[[], Any]:
    """Make a method; return what begins the first epoch of its last stage."""
    cls, config = settings_of(name)
    about: Any = ("", bank.modality.cpu(), bank.camera.cpu(), "resnet18", None, partial(seed_for, seed))
    method = cls(config, TrainingData(*about))
    for module in method.modules.values():
        module.to(bank.features.device)
    stages = cls.stages(config)
    if not stages:
        raise HarnessError(f"--method {name}: it has no epochs")
    epoch = Epoch(sum(stage.epochs for stage in stages[:-1]), stages[-1], 0)
    method.optimisers(stages[-1])
    return lambda: method.begin_epoch(epoch, bank)


def association(frame: pd.DataFrame) -> str:
    """Say how long association took beside the search of the same epoch."""
    wall = frame.set_index("stage")["wall_median_s"]
    took = wall[wall.index.isin(ASSOCIATION)].sum()
    if SEARCH not in wall:
        return f"association {took:.3g} s"
    return f"association {took:.3g} s, {took / wall[SEARCH]:.0%} of the search of the epoch, {wall[SEARCH]:.3g} s"
