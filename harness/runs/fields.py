"""Fields of configurations by dotted key: ``first.k1`` is the field `k1` of the group `first`.

A group is a field that is itself a configuration. What a person reads and sets is a leaf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

UNKNOWN = "-"


@dataclass(frozen=True)
class Leaf:
    """A field that is no group.

    Attributes
    ----------
    default : object
        Of the configuration that it is looked at from: a group's own default counts before its fields' defaults.
    source : str
        Who says so; a dash if nobody does.
    about : str
        One line for the user.
    """

    default: Any
    source: str
    about: str


def leaves(cls: type[BaseModel], default: BaseModel | None = None) -> dict[str, Leaf]:
    """Return the leaves of a configuration by dotted key, in the order of its fields.

    Parameters
    ----------
    default : BaseModel, optional
        Where defaults come from; by default the fields' own.
    """
    by_key: dict[str, Leaf] = {}
    for name, field in cls.model_fields.items():
        value = field.get_default(call_default_factory=True) if default is None else getattr(default, name)
        group = group_of(field)
        if group is None:
            by_key[name] = Leaf(value, stated_source(cls, name), field.description or "")
            continue
        for key, leaf in leaves(group, value if isinstance(value, BaseModel) else None).items():
            said = (overriding_source(cls, f"{name}.{key}"), leaf.source, stated_source(cls, name))
            source = next((one for one in said if one != UNKNOWN), UNKNOWN)
            by_key[f"{name}.{key}"] = replace(leaf, source=source)
    return by_key


def group_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the configuration that a field holds; None if the field is a leaf."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def overriding_source(cls: type[BaseModel], key: str) -> str:
    """Return the source that a class gives a dotted key in its ``sources``, over that of the field."""
    return str(getattr(cls, "sources", {}).get(key, UNKNOWN))


def stated_source(cls: type[BaseModel], name: str) -> str:
    """Say who a field's value comes from: the class's ``sources``, else the field itself."""
    extra = cls.model_fields[name].json_schema_extra
    declared = str(extra.get("source", UNKNOWN)) if isinstance(extra, dict) else UNKNOWN
    over = overriding_source(cls, name)
    return declared if over == UNKNOWN else over


def value_at(config: BaseModel, key: str) -> Any:
    """Return the value of a leaf."""
    return reduce(getattr, key.split("."), config)


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values by dotted key."""
    dotted: dict[str, Any] = {}
    for name, value in values.items():
        inner = value.model_dump() if isinstance(value, BaseModel) else value
        if isinstance(inner, Mapping):
            dotted |= {f"{name}.{key}": leaf for key, leaf in flat(inner).items()}
        else:
            dotted[name] = inner
    return dotted


def merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay values over others, group by group.

    Examples
    --------
    >>> merged({"first": {"k1": 30, "k2": 6}}, {"first.k1": 20})
    {'first': {'k1': 20, 'k2': 6}}
    """
    result = dict(values)
    for name, value in over.items():
        top, dot, rest = name.partition(".")
        new = value.model_dump() if isinstance(value, BaseModel) else value
        new = {rest: new} if dot else new
        if isinstance(new, Mapping):
            below = result.get(top)
            new = merged(below if isinstance(below, Mapping) else {}, new)
        result[top] = new
    return result


def with_group_defaults(cls: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Complete groups that are given in part by the defaults that `cls` gives them."""
    given: dict[str, Any] = {}
    for name, field in cls.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if group_of(field) and isinstance(values.get(name), Mapping) and isinstance(default, BaseModel):
            given[name] = default.model_dump()
    return merged(given, values)
