from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from harness.errors import HarnessError, RunHeldError, format_error, printable, understood, user_errors


def test_exit_codes() -> None:
    assert format_error(HarnessError("wrong")) == ("wrong", 2)
    assert format_error(RunHeldError("held")) == ("held", 3)


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 8 TiB"), torch.OutOfMemoryError("CUDA: 8 TiB\nmore")]
)
def test_a_full_memory_is_explained_in_one_line(error: BaseException) -> None:
    assert isinstance(error, user_errors())
    text, code = format_error(error)
    assert code == 2
    assert "8 TiB" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: 8 TiB"),
            "out of memory",
        ),
        (
            RuntimeError("Storage size calculation overflowed with sizes=[230584300921369395, 64]"),
            "out of memory",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "use fewer --workers"),
        (
            RuntimeError("unable to write to file </torch_1_2>: No space left on device (28)"),
            "enlarge /dev/shm",
        ),
        (RuntimeError("can't start new thread"), "no more threads"),
        (
            RuntimeError("cannot cache function 'f': no locator available for file 'x.py'"),
            "set NUMBA_CACHE_DIR",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "runs/x"), "raise the quota"),
    ],
)
def test_errors_of_libraries_are_understood(error: BaseException, words: str) -> None:
    known = understood(error)
    assert isinstance(known, user_errors())
    text, code = format_error(known)
    assert words in text
    assert (code, "\n" in text) == (2, False)


def test_a_bug_stays_a_bug() -> None:
    error = RuntimeError("shapes do not match")
    assert understood(error) is error


def test_a_damaged_kernel_cache_names_its_folder(tmp_path: Path) -> None:
    from numba.core.caching import IndexDataCacheFile

    cache = IndexDataCacheFile(str(tmp_path), "kernel", (1, 2))
    cache.save("key", b"code")
    (index,) = tmp_path.glob("*.nbi")
    index.write_bytes(index.read_bytes()[:-4])
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever unpickling a cut file raises
        cache.load("key")
    assert f"a compiled kernel in {tmp_path} is damaged" in str(understood(caught.value))


def test_what_steers_a_terminal_is_spelled_out() -> None:
    assert printable("a\x1b[31mred\n\tb ± \udcba") == "a\\x1b[31mred\n\tb ± \\udcba"


def test_a_message_does_not_quote_a_whole_file() -> None:
    text, _ = format_error(HarnessError("list.txt, line 3: " + "x" * 100_000 + " is no path; mend it"))
    assert len(text) < 4100
    assert text.startswith("list.txt, line 3: xxx")
    assert text.endswith("xxx is no path; mend it")
