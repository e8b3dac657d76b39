"""A second device without hardware: it computes as the CPU does, refuses what CUDA refuses, and counts waits.

Importing this module registers the device ``pretend`` with PyTorch, and replaces ``torch.tensor`` and
``torch.as_tensor`` in this process; so it belongs into a process that does nothing else (``pytest --pretend``). Values
lie in main memory and go through the CPU's own operators, hence results are those of the CPU to the last bit. But a
tensor of the device

- does not take part in an operation with a tensor of the CPU, unless that has no dimension;
- does not turn into a NumPy array;
- lets the host wait whenever a value, or a size that depends on values, is asked for. :data:`waits` counts these by the
  line of ours that asked.

What it cannot show: rounding, speed and autocast of CUDA (hand the code a null context), and operators that resize
what they are told to write into.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "pretend"
ROOT = f"{Path(__file__).parents[1]}{os.sep}"
Operator = Any

waits: Counter[str] = Counter()
"""``folder/file.py: function`` -> how often the host had to wait since the last ``clear()``."""

ops = torch.ops.aten
VALUES: set[Operator] = {ops._local_scalar_dense.default, ops.equal.default, ops.is_nonzero.default}
"""Operators that give the host a value."""
SIZES: set[Operator] = {
    *(ops.nonzero.default, ops.masked_select.default, ops._unique2.default),
    *(ops.unique_dim.default, ops.unique_consecutive.default),
}
"""Operators whose result has a size that depends on values."""
FACTORIES = (
    *("arange", "arange.start", "arange.start_step", "linspace"),
    *("randperm", "randperm.generator", "eye", "eye.m"),
)
"""Operators that PyTorch otherwise builds from an empty tensor, which it resizes."""
TRANSFERS = ("aten::_to_copy", "aten::copy_", "aten::_copy_from")
INDEXING = ("aten::index.", "aten::index_put", "aten::_index_put", "aten::_unsafe_index")


class Backend(_DummyBackendModule):
    """What PyTorch finds under ``torch.pretend``."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def synchronize(self, *_: Any) -> None:
        """Nothing is under way."""


_setup_privateuseone_for_python_backend(NAME, Backend())
DEVICE = torch.device(NAME, 0)


class Pretend(torch.Tensor):
    """A tensor on ``pretend:0``; `held` is the tensor in main memory that has its values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Pretend:
        shape, strides, offset = held.shape, held.stride(), held.storage_offset()
        return torch.Tensor._make_wrapper_subclass(
            cls, shape, strides=strides, storage_offset=offset, dtype=held.dtype, device=DEVICE
        )

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"{self.held!r} on {DEVICE}"

    @property  # type: ignore[override]
    def data(self) -> torch.Tensor:
        return self.detach()

    @data.setter
    def data(self, other: Pretend) -> None:
        torch.Tensor.data.__set__(self, other)  # type: ignore[attr-defined]
        self.held = other.held

    def tolist(self) -> Any:
        count()
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"a tensor on {DEVICE} is no NumPy array; copy it to the host first")

    __array__ = numpy

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None, device: Any = None, **_: Any) -> Any:
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or DEVICE)

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return run(operator, args, kwargs or {})


def place_of_ours() -> str:
    """Name the innermost line that is in this repository, and not in this file."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(ROOT) and path != __file__ and "site-packages" not in path:
            return f"{path.removeprefix(ROOT)}: {frame.f_code.co_name}"
        frame = frame.f_back
    return "?"


def count() -> None:
    """Book a wait under the line of ours that asked for it."""
    waits[place_of_ours()] += 1


class About(NamedTuple):
    """What is known of an operator by its name and schema."""

    name: str
    moves: bool
    indexes: bool
    copies: bool
    converts: bool
    asks: bool
    """Gives the host a value, or a result whose size depends on values."""
    answers: bool
    """Gives the host a value."""
    writes: bool


@cache
def about(operator: Operator) -> About:
    name = operator.name()
    return About(
        name,
        moves=name.startswith(TRANSFERS),
        indexes=name.startswith(INDEXING),
        copies=name.startswith("aten::copy_"),
        converts=name.startswith("aten::_to_copy"),
        asks=operator in VALUES | SIZES,
        answers=operator in VALUES,
        writes=operator._schema.is_mutable,
    )


def tensors_in(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Yield the tensors among arguments, and in lists of them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)


def is_elsewhere(value: torch.Tensor) -> bool:
    """Say whether a tensor is one of the CPU that CUDA would not take."""
    return not isinstance(value, Pretend) and value.dim() > 0


def refuse_two_devices(what: About, args: Sequence[Any], tensors: Sequence[torch.Tensor]) -> None:
    """Refuse operands, or indices, that CUDA would refuse; count the waits of indices."""
    if what.indexes:
        if not isinstance(args[0], Pretend):
            raise RuntimeError(f"{what.name}: indices on {DEVICE} for a tensor on the CPU")
        if any(map(is_elsewhere, tensors)):
            count()  # they are copied first
        if any(index.dtype == torch.bool for index in tensors_in(args[1] or ())):
            count()  # what a mask keeps is counted
    elif not what.moves and any(map(is_elsewhere, tensors)):
        raise RuntimeError(f"{what.name}: expected all tensors on one device, found {DEVICE} and the CPU")


def leads_to(device: Any, kind: str) -> bool:
    return device is not None and torch.device(device).type == kind


def held(value: Any) -> Any:
    """Return what is in main memory for an argument."""
    if isinstance(value, Pretend):
        return value.held
    return [*map(held, value)] if isinstance(value, list | tuple) else value


def placed(value: Any) -> Any:
    """Return a result on the device."""
    if isinstance(value, torch.Tensor):
        return value if isinstance(value, Pretend) else Pretend(value)
    return type(value)(map(placed, value)) if isinstance(value, list | tuple) else value


def run(operator: Operator, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run an operator on what its arguments hold, and give the results the device that they should have."""
    what, tensors = about(operator), [*tensors_in(args), *tensors_in(kwargs.values())]
    some_here = any(isinstance(tensor, Pretend) for tensor in tensors)
    if some_here:
        refuse_two_devices(what, args, tensors)
    fetched = what.converts and leads_to(kwargs.get("device"), "cpu")
    written_to_host = what.copies and not isinstance(args[0], Pretend)
    if some_here and (fetched or written_to_host or what.asks):
        count()

    plain = {name: held(value) for name, value in kwargs.items()}
    if leads_to(plain.get("device"), NAME):
        plain["device"] = torch.device("cpu")
    if plain.get("pin_memory"):
        plain["pin_memory"] = False
    found = operator(*map(held, args), **plain)

    if written_to_host:
        return args[0]
    if fetched or what.answers:
        return found
    if what.writes and not isinstance(found, tuple | list):
        return changed_argument(operator, args, kwargs)
    return placed(found)


def changed_argument(operator: Operator, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Return the argument that an operator has written into."""
    for value, argument in zip(args, operator._schema.arguments, strict=False):
        written = argument.alias_info is not None and argument.alias_info.is_write
        if isinstance(value, Pretend) and written:
            return value
    out = kwargs.get("out", kwargs.get("result"))
    if out is not None and out.shape != out.held.shape:
        raise NotImplementedError(f"{operator.name()} resizes what it writes into")
    return out


def through_the_host(make: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function that makes tensors make those of the device in main memory first."""

    def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Any:
        if leads_to(device, NAME):
            return make(held(data) if isinstance(data, Pretend) else data, *args, **kwargs).to(DEVICE)
        return make(data, *args, **kwargs) if device is None else make(data, *args, device=device, **kwargs)

    return made


def overload(name: str) -> Operator:
    packet, _, kind = name.partition(".")
    return getattr(getattr(ops, packet), kind or "default")


def registered() -> Iterator[torch.library.Library]:
    """Send every operator that meets the device through :func:`run`."""
    everything = torch.library.Library("_", "IMPL")
    everything.fallback(lambda operator, *args, **kwargs: run(operator, args, kwargs), "PrivateUse1")
    yield everything
    factories = torch.library.Library("aten", "IMPL")
    for name in FACTORIES:
        operator = overload(name)
        factories.impl(name, lambda *a, _operator=operator, **k: run(_operator, a, k), "PrivateUse1")
    yield factories


LIBRARIES = tuple(registered())
torch.tensor, torch.as_tensor = through_the_host(torch.tensor), through_the_host(torch.as_tensor)
