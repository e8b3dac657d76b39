"""``with timed("jaccard"):`` anywhere: whoever runs a benchmark says where the time goes, nobody hands a timer down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

Recorder = Callable[[str], AbstractContextManager[object]]
"""``recorder(stage)`` is a context manager that measures what happens inside."""

_recorder: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


def timed(stage: str) -> AbstractContextManager[object]:
    """Measure a stage of the computation by the recorder that is set; without one it costs nothing.

    Parameters
    ----------
    stage : str
        Name in ``profile.csv``: ``neighbours``, ``jaccard``, ``associate`` ...
    """
    recorder = _recorder.get()
    return nullcontext() if recorder is None else recorder(stage)


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Let `recorder` measure every :func:`timed` stage inside the ``with`` block, in this thread."""
    token = _recorder.set(recorder)
    try:
        yield
    finally:
        _recorder.reset(token)
