"""What papers call methods, data sets and settings, and the parts of a method that its paper's ablations tick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Ablation = Mapping[str, Mapping[str, Sequence[Any]]]
"""Part -> setting -> the values that switch the part off. ``MIE/VC``: VC stands where MIE is off. Settings under the
empty name are no part, but may move along with one."""

SUPERVISION = {
    "none": "Not trained on the data set",
    "supervised": "Supervised",
    "weak": "Weakly supervised",
    "semi": "Semi-supervised",
    "usl-pretrained": "Unsupervised, pretrained on persons or text",
    "usl": "Unsupervised",
}
"""Groups of a table's rows, in their order."""


@dataclass(frozen=True)
class Paper:
    """What a method and its variants are called, where it was published, and its ablations by their tables' names."""

    name: str
    venue: str = ""
    year: int = 0
    ablations: Mapping[str, Ablation] = field(default_factory=dict)
    variants: Mapping[str, str] = field(default_factory=dict)


def base_name(label: str) -> str:
    """Return the method of a line: ``dmic`` of ``dmic:mie[eps_high=0.5] @ demo``."""
    return label.split(" @ ")[0].split("[")[0].split(":")[0]


def variant_of(label: str) -> tuple[str, str]:
    """Return the variant of a line, and what else its name says: ``mie`` and ``[eps_high=0.5] @ demo``."""
    stem = label.split(" @ ")[0].split("[")[0]
    return stem.partition(":")[2], label[len(stem) :]


def part_names(key: str) -> tuple[str, str]:
    """Return a part of an ablation and what stands in its place."""
    name, _, instead = key.partition("/")
    return name, instead


def ticks(ablation: Ablation, config: Mapping[str, Any]) -> dict[str, bool]:
    """Return whether a configuration has each part: none of its settings switches it off."""
    return {
        part_names(key)[0]: not any(config.get(setting) in values for setting, values in off.items())
        for key, off in ablation.items()
        if key
    }


def row_name(ablation: Ablation, ticked: Mapping[str, bool], full: str) -> str:
    """Return the name of an ablation's row: its parts, and what stands for those that are off."""
    if all(ticked.values()):
        return f"full {full}"
    named = (part_names(key) for key in ablation if key)
    words = [name if ticked[name] else instead for name, instead in named]
    return " + ".join(word for word in words if word) or "no part"


def proper_name(label: str, paper: Paper, config: Mapping[str, Any]) -> str:
    """Return what a paper would call a line: ``DMIC w/o DNC``, or ``DMIC (eq6)`` for another variant."""
    variant, rest = variant_of(label)
    if variant in paper.variants:
        return paper.variants[variant] + rest
    lost = [
        [name for name, on in ticks(ablation, config).items() if not on]
        for ablation in paper.ablations.values()
    ]
    lost = [names for names in lost if names]
    if len(lost) == 1:
        return f"{paper.name} w/o {', '.join(lost[0])}{rest}"
    return f"{paper.name} ({variant}){rest}" if variant else f"{paper.name}{rest}"


def venue_text(venue: str, year: str | int) -> str:
    """Return ``TNNLS'25`` of ``IEEE TNNLS, arXiv 2412.08231``; empty where there is none (``public code only``)."""
    short = venue.replace(";", ",").split(",")[0].strip().removeprefix("IEEE ")
    if short.islower() and year:
        return ""
    return f"{short}'{str(year)[-2:]}" if short and year else short


def group_of(supervision: str) -> str:
    """Return the heading of a row's group."""
    return SUPERVISION.get(supervision.lower(), supervision)


def group_rank(heading: str) -> int:
    """Return the place of a group among the groups; an unknown one is the last."""
    known = list(SUPERVISION.values())
    return known.index(heading) if heading in known else len(known)


def heading_of(title: str, setting: str, several: bool) -> str:
    """Return the heading of the columns of a setting of a protocol; `title` names the protocol if the setting does not.

    `several`: the protocol has other settings here.
    """
    words = setting.replace("-", " ")
    if not title:
        return words[:1].upper() + words[1:]
    return f"{title}, {words}" if several else title
