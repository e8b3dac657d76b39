"""What is benchmarked: a file for each paper, beside the contract that they keep.

The top level holds the papers, ``base`` (the contract: :class:`methods.base.Method`, its configuration and its
reference), ``values`` and ``batches`` (what a method and the harness hand each other), ``timing`` and ``errors``. What
several papers share is in ``parts``; ``clustering`` and ``association`` are functions on arrays that know of no
method. A method never sees a path or a run: those are the harness's, and so is the choice of a device.
"""

__all__ = ["Method", "MethodConfig", "Reference"]


def __getattr__(name: str) -> object:
    """Give the contract's names without importing torch before they are used."""
    if name in __all__:
        from methods import base

        return getattr(base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
