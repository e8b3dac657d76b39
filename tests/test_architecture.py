"""Who may import whom, how large a thing may be, and what a stranger may find in the repository."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("harness", "methods", "protocols", "results")
FILE_LINES, FUNCTION_LINES, USUAL_LINES = 350, 60, 30
PARAGRAPH_WORDS = 15
FLAT_FILES = 4
"""Modules that lie in harness/ itself."""
CONTRACT = ("__init__", "base", "batches", "errors", "labels", "timing", "values")
"""Modules at the top level of methods/ that are no paper's."""
ANCESTORS = ("Method", "TwoStreamMethod")
SPECS = "dmic|methods|protocols|llcm|statistics"
ABSENT = re.compile(rf"\b({SPECS})-{'spec'}\b|\b{'ARCHI'}TECTURE\b|{'words'}\.md")
"""Notes that are not in the repository; spelled in halves here, so that this file does not cite them."""
DATA_SETS = {"sysu-mm01", "regdb", "llcm"}


def check(offenders: Mapping[str, object]) -> None:
    """Fail with all offenders, one a line."""
    assert not offenders, "\n".join(["", *(f"{name}: {what}" for name, what in offenders.items())])


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def code() -> list[Path]:
    """Return every module outside tests/."""
    return [
        *ROOT.glob("*.py"),
        *(file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))),
    ]


def papers() -> list[Path]:
    return [file for file in sorted((ROOT / "methods").glob("*.py")) if file.stem not in CONTRACT]


def texts() -> Iterator[Path]:
    """Yield the tracked files, and those that git does not ignore, that hold text."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no git repository")
    for line in done.stdout.splitlines():
        file = ROOT / line
        if file.is_file() and b"\0" not in file.read_bytes()[:8192]:
            yield file


def imported(file: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever in it; ``from a import b`` gives a and a.b."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)} has a relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_import_directions() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", ["harness.cli.app", "harness.runs.run_spec", "results", "results.report"])
def test_torch_is_not_imported_at_once(module: str) -> None:
    """Help, names and tables must not wait for it."""
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_nothing_of_methods_imports_a_paper() -> None:
    """Neither another paper nor what they share; held here, so that a new paper is listed nowhere."""
    modules = {f"methods.{file.stem}" for file in papers()}
    offenders = {}
    for file in sorted((ROOT / "methods").rglob("*.py")):
        others = modules & set(imported(file)) - {f"methods.{file.stem}"}
        if others:
            offenders[name_of(file)] = sorted(others)
    check(offenders)


def test_a_papers_method_has_one_ancestor() -> None:
    """A reader of a paper's file has one class above it to know."""
    offenders = {}
    for file in papers():
        classes = [node for node in tree(file).body if isinstance(node, ast.ClassDef)]
        above = {node.name: [ast.unparse(base) for base in node.bases] for node in classes}
        methods = [name for name, bases in above.items() if set(bases) & set(ANCESTORS)]
        wrong = [name for name, bases in above.items() if set(bases) & set(methods)]
        wrong += [name for name in methods if len(above[name]) > 1]
        if wrong or not methods:
            offenders[name_of(file)] = wrong or f"no class below {' or '.join(ANCESTORS)}"
    check(offenders)


def test_no_file_is_too_long() -> None:
    lengths = {name_of(file): len(file.read_text(encoding="utf-8").splitlines()) for file in code()}
    check({name: lines for name, lines in lengths.items() if lines > FILE_LINES})


def function_lengths() -> Iterator[tuple[str, int]]:
    """Yield file and name of every function outside tests/, and its lines from ``def`` to the end."""
    for file in code():
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name_of(file)}: {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_function_is_too_long() -> None:
    check({name: lines for name, lines in function_lengths() if lines > FUNCTION_LINES})


def test_nine_functions_of_ten_fit_half_a_page() -> None:
    lines = sorted(lines for _, lines in function_lengths())
    assert lines[int(0.9 * len(lines))] <= USUAL_LINES


def test_the_harness_has_few_flat_files() -> None:
    flat = [file.name for file in (ROOT / "harness").glob("*.py") if not file.name.startswith("__")]
    assert len(flat) <= FLAT_FILES, flat


def test_every_package_says_what_lives_in_it() -> None:
    short = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("__init__.py"):
            text = ast.get_docstring(tree(file)) or ""
            if len(text.split()) < PARAGRAPH_WORDS:
                short[name_of(file)] = text
    check(short)


def test_no_text_cites_what_the_repository_lacks() -> None:
    offenders: dict[str, list[str]] = {}
    for file in texts():
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            documents = re.findall(r"\bdocs/[\w-]+\.md", line)
            if ABSENT.search(line) or not all((ROOT / document).is_file() for document in documents):
                offenders.setdefault(name_of(file), []).append(f"{number}: {line.strip()}")
    check(offenders)


def test_no_code_compares_a_data_sets_name() -> None:
    """What differs between data sets is a field of their objects."""
    offenders: dict[str, list[str]] = {}
    for file in code():
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Compare):
                constants = {one.value for one in ast.walk(node) if isinstance(one, ast.Constant)}
                if constants & DATA_SETS:
                    offenders.setdefault(name_of(file), []).append(f"{node.lineno}: {ast.unparse(node)}")
    check(offenders)


def test_nothing_unpickles() -> None:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            assert "pickle" not in text.replace("allow_pickle=False", "").replace("unpickle", ""), file
            assert text.count("torch.load(") == text.count("weights_only=True"), file
            assert text.count("np.load(") == text.count("allow_pickle=False"), file


def test_two_files_write_files() -> None:
    """By four functions of ``os``, which tests replace to make a disk lie."""
    offenders: dict[str, list[str]] = {}
    for file in code():
        if name_of(file) in ("results/files.py", "protocols/files.py"):
            continue
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Call):
                call = ast.unparse(node.func)
                modes = [
                    one.value
                    for one in [*node.args, *(k.value for k in node.keywords)]
                    if isinstance(one, ast.Constant)
                ]
                opens = call.endswith("open") and any(
                    mode in ("w", "wb", "a", "ab", "x", "xb") for mode in modes
                )
                if opens or call.endswith(
                    (".write_bytes", ".write_text", "os.open", "os.fdopen", "os.write")
                ):
                    offenders.setdefault(name_of(file), []).append(f"{node.lineno}: {call}")
    check(offenders)
