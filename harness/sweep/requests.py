"""From the methods that a person names (``dmic pgm``, ``dmic:*``, ``all``) to the runs of all of them."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.errors import HarnessError, code_of_many, format_error, user_errors
from harness.registry import load_method, load_protocols, methods, nearest
from harness.runs.configuration import (
    EngineConfig,
    knows,
    parse_sets,
    refuse_replaced,
    split_variant,
    variants_of,
)
from harness.runs.data import Say
from harness.runs.fields import leaves
from harness.runs.plan import Request, configure, parse_trials, survey, tasks_of
from harness.runs.task import Execution, Task
from methods.base import Method

ALL = "all"
EVERY = "*"
"""After a method and a colon: all of its variants."""


@dataclass(frozen=True)
class Failure:
    """A method (or one of its runs) that stopped, why, and the exit code that says of which kind it is."""

    what: str
    reason: str
    code: int = 2

    def __str__(self) -> str:
        return f"{self.what} {'is held' if self.code == 3 else 'failed'}: {self.reason}"


def exit_code(failures: Iterable[Failure]) -> int:
    """Return the exit code of several runs: 0, or that of the failure which counts first."""
    return code_of_many(failure.code for failure in failures)


def plan_several(
    names: Sequence[str], request: Request, execution: Execution, say: Say, *, ignore_missing: bool = False
) -> tuple[list[Task], list[Failure]]:
    """Return the runs of the named methods, and what of ``all`` or ``METHOD:*`` cannot be planned.

    Parameters
    ----------
    names : sequence of str
        ``METHOD``, ``METHOD:variant``, ``METHOD:*`` or ``all``; what a person has spelled out must be right.
    request : Request
        Everything but the method.
    ignore_missing : bool
        Leave a ``--set`` out for methods that do not have its key.

    Raises
    ------
    HarnessError, DataError
        Before any data are made or read: an unknown name, a wrong value, a ``--set`` key that a method lacks (says
        which ones lack it); then on what concerns all: protocol, data, trials.
    """
    chosen = load_protocols(request.protocol)
    splits = parse_trials(request.trials, chosen[0].dataset.splits)
    labels, failures = expand(names)
    sets = sets_by_label(request.sets, labels, ignore_missing=ignore_missing)
    configured = []
    for label in labels:
        one = replace(request, method=label, sets=sets[label])
        try:
            configured.append((one, configure(one, chosen[0].dataset.name, execution.device)))
        except user_errors() as error:
            if label in names:
                raise
            failures.append(Failure(label, format_error(error)[0]))
        except Exception as error:  # a bug, perhaps of a plug-in; the others have their turn
            if label in names:
                raise
            say(traceback.format_exc())
            failures.append(Failure(label, f"{error}" or type(error).__name__, 1))
    data = survey(request, chosen, splits, say)
    tasks = [task for one, what in configured for task in tasks_of(one, execution, what, splits, data)]
    return list({task.spec.id: task for task in tasks}.values()), failures


def expand(names: Sequence[str]) -> tuple[dict[str, type[Method]], list[Failure]]:
    """Return what names stand for, with the classes; a broken plug-in that only ``all`` names is a failure.

    Raises
    ------
    HarnessError
        If a name is unknown, or a method has no variants.
    """
    found: dict[str, type[Method]] = {}
    failures: list[Failure] = []
    for name in names:
        if name == ALL:
            classes, failures = usable()
            found |= classes
            continue
        method, variant = split_variant(name)
        cls = load_method(method)
        if variant != EVERY:
            found[name] = cls
            continue
        variants = variants_of(cls)
        if not variants:
            raise HarnessError(f"{name}: {method} has no variants")
        found |= {f"{method}:{one}": cls for one in variants}
    return found, failures


def usable() -> tuple[dict[str, type[Method]], list[Failure]]:
    """Load every method; a broken plug-in is a failure that names its package."""
    classes, failures = {}, []
    for name in methods():
        try:
            classes[name] = load_method(name)
        except HarnessError as error:
            failures.append(Failure(name, str(error)))
    return classes, failures


def sets_by_label(
    sets: Sequence[str], classes: Mapping[str, type[Method]], *, ignore_missing: bool
) -> dict[str, tuple[str, ...]]:
    """Return the ``--set`` options of each method.

    Raises
    ------
    HarnessError
        If no method knows a key, or some lack it and that is not allowed; names them.
    """
    if len(classes) == 1 and not ignore_missing:
        return {label: tuple(sets) for label in classes}  # its configuration says best what is wrong
    by_label: dict[str, tuple[str, ...]] = dict.fromkeys(classes, ())
    for key, value in parse_sets(sets).items():
        for cls in classes.values():
            refuse_replaced(cls, (key,), f"--set {key}")
        having = [label for label, cls in classes.items() if knows(cls, key)]
        lacking = [label for label in classes if label not in having]
        if classes and not having:
            known = {leaf for cls in classes.values() for leaf in leaves(cls.Config)}
            fix = nearest(key, known | {*EngineConfig.model_fields})
            raise HarnessError(f"--set {key}: unknown key of {', '.join(classes)}; {fix}")
        if lacking and not ignore_missing:
            raise HarnessError(
                f"--set {key}: {', '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no such key; nothing was "
                f"run. With --ignore-missing the value is left out there, and set for {', '.join(having)}"
            )
        for label in having:
            by_label[label] = (*by_label[label], f"{key}={value}")
    return by_label
