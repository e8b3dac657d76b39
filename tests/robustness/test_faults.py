"""Each write failed once: the quick operations whole, a run where most would be lost."""

from __future__ import annotations

import pytest

from tests.robustness.disk import Call, Fault
from tests.robustness.faults import OPERATIONS, attempt, faults, undisturbed


@pytest.mark.parametrize("name", ["log", "source weights", "twin", "bundle"])
def test_a_failed_write_is_named_leaves_nothing_and_can_be_tried_again(name: str) -> None:
    with undisturbed(OPERATIONS[name]) as tried:
        assert tried.calls
        for fault in faults(tried.calls):
            assert attempt(OPERATIONS[name], tried, fault).wrong == (), fault


@pytest.mark.slow
def test_a_full_disk_costs_a_run_the_epoch_in_progress_alone() -> None:
    with undisturbed(OPERATIONS["run"]) as tried:
        call = Call("write", "last.ckpt", 2)
        assert call in tried.calls
        found = attempt(OPERATIONS["run"], tried, Fault(call, "ENOSPC"))
    assert (found.wrong, found.lost) == ((), "nothing")
    assert "last.ckpt: No space left on device; free some space" in found.saw
