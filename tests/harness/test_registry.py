from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import registry
from harness.errors import HarnessError
from harness.reading import parse_module
from methods.base import Method
from protocols.base import Dataset, Protocol
from tests.conftest import process_environment

METHOD = """
from methods.source_only import SourceOnly

class Other(SourceOnly):
    name = {name!r}
    summary = "from elsewhere"
"""


def install(folder: Path, package: str, group: str, target: str, source: str) -> None:
    """Lay out an installed distribution that has one entry point."""
    module, _, _ = target.partition(":")
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nentry = {target}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.forget()
    yield tmp_path
    registry.forget()


def test_ours_are_found_without_importing_them() -> None:
    code = (
        "import sys; from harness import registry as r; m, p = r.methods(), r.protocols(); "
        "assert {'dmic', 'source-only', 'cluster-contrast'} <= set(m); "
        "assert {'regdb', 'sysu-all', 'sysu-indoor'} <= set(p); "
        "assert not {'torch', 'methods.dmic', 'protocols.regdb'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=process_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_is_read_equals_what_is_imported() -> None:
    for name, entry in registry.methods().items():
        method = registry.load_method(name)
        assert issubclass(method, Method)
        assert (method.name, method.summary, method.supervision) == (name, entry.summary, entry.supervision)
    for name, entry in registry.protocols().items():
        (protocol,) = registry.load_protocols(name)
        assert isinstance(protocol, Protocol)
        assert (protocol.id, protocol.summary, protocol.dataset.name) == (name, entry.summary, entry.dataset)

    for name, entry in registry.datasets().items():
        dataset = registry.load_dataset(name)
        assert isinstance(dataset, Dataset)
        assert (dataset.name, dataset.summary, dataset.alias, dataset.unions) == (
            *(name, entry.summary, entry.alias, entry.unions),
        )
        assert registry.load_dataset(entry.alias or name).name == name


def test_a_class_in_a_sub_package_is_found_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "CODE", tmp_path)
    inner = tmp_path / "methods" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "methods" / "base.py").write_text("class Method(ABC): pass\n")
    (tmp_path / "methods" / "a.py").write_text("class Same(base.Method[int]): pass\n")
    (inner / "b.py").write_text("from x import Same\nclass Deep(Same):\n    name, summary = 0, 0\n")
    (inner / "__init__.py").write_text(
        "class Top(Same):\n    name: str = 'top'\n    summary = ('a '\n 'b')\n"
    )
    (inner / "c.py").write_text(
        "class Same: pass\nclass No(Same):\n    name = 'no'\n    summary = 'other Same'\n"
    )
    (entry,) = registry.scan(registry.METHOD)
    assert (entry.name, entry.summary, entry.target) == ("top", "a b", "methods.inner:Top")


def test_a_class_without_a_summary_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "CODE", tmp_path)
    (tmp_path / "protocols").mkdir()
    file = tmp_path / "protocols" / "x.py"
    file.write_text(
        "class Protocol: pass\nclass Odd(Protocol):\n    id = 'odd'\n    summary = 'no data set'\n"
    )
    with pytest.raises(HarnessError, match=r"x\.py, line 2: class Odd lacks the attribute `dataset`"):
        registry.scan(registry.PROTOCOL)


def test_files_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = registry.methods()
    monkeypatch.setattr(registry, "scan", lambda _kind: pytest.fail("read again"))
    assert registry.methods() is first


def test_a_union_stands_for_the_protocols_of_one_training_split() -> None:
    assert [p.id for p in registry.load_protocols("sysu")] == ["sysu-all", "sysu-indoor"]
    assert {p.id for p in registry.protocols_of("sysu-mm01")} == {
        *("sysu-all", "sysu-indoor", "sysu-all-official", "sysu-indoor-official")
    }


def test_unknown_names_get_the_nearest_or_the_list() -> None:
    with pytest.raises(HarnessError, match=r"'dmik'.*'dmic'"):
        registry.load_method("dmik")
    with pytest.raises(HarnessError, match=r"'sysu-al'.*'sysu-all'"):
        registry.load_protocols("sysu-al")
    with pytest.raises(HarnessError, match=r"there are .*cluster-contrast.*dmic"):
        registry.load_method("zzz")


def test_a_plugin_is_listed_and_loaded(site: Path) -> None:
    install(site, "good-package", "reidbench.methods", "good_module:Other", METHOD.format(name="other"))
    entry = registry.methods()["other"]
    assert (entry.origin, entry.summary, entry.supervision, entry.error) == (
        *("good-package", "from elsewhere", "none", ""),
    )
    assert registry.load_method("other").name == "other"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_module_that_is_not_there", "a_module_that_is_not_there"),
        ("Other = 3", "methods.base.Method"),
        ("class Other: name, summary = 'other', 'no method'", "methods.base.Method"),
        ("def f(:", "SyntaxError"),
        ("import sys; sys.exit(5)", "SystemExit"),
        (METHOD.format(name="other").replace("'other'", "['x']"), "no printable text"),
        (METHOD.format(name="other").replace("from elsewhere", "\\x1b[31mred"), "no printable text"),
        ("", "Other"),
    ],
)
def test_a_broken_plugin_is_named_and_the_rest_works(site: Path, source: str, reason: str) -> None:
    module = f"bad_module_{abs(hash(source))}"
    install(site, "bad-package", "reidbench.methods", f"{module}:Other", source)
    found = registry.methods()
    assert "bad-package" in found["entry"].error
    assert reason in found["entry"].error
    with pytest.raises(HarnessError, match="bad-package"):
        registry.load_method("entry")
    assert registry.load_method("dmic").name == "dmic"


def test_a_broken_protocol_plugin_does_not_stop_scoring(site: Path) -> None:
    install(site, "bad-protocols", "reidbench.protocols", "bad_protocols:Any", "raise OSError('no licence')")
    assert "no licence" in registry.protocols()["entry"].error
    assert [p.id for p in registry.protocols_of("regdb")] == ["regdb"]


def test_a_broken_data_set_plugin_does_not_stop_the_others(site: Path) -> None:
    install(site, "bad-data", "reidbench.datasets", "bad_data:Any", "class Any: name, summary = 'any', ''")
    assert "protocols.base.Dataset" in registry.datasets()["entry"].error
    assert {dataset.name for dataset in registry.load_datasets()} == set(registry.datasets()) - {"entry"}
    with pytest.raises(HarnessError, match="data set 'entry' cannot be used: the package bad-data is broken"):
        registry.load_dataset("entry")
    with pytest.raises(HarnessError, match=r"unknown data set 'regbd': did you mean 'regdb'"):
        registry.load_dataset("regbd")


def test_a_name_of_ours_stays_ours(site: Path) -> None:
    install(site, "copy-package", "reidbench.methods", "copy_module:Other", METHOD.format(name="dmic"))
    found = registry.methods()
    assert found["dmic"].origin == "reidbench"
    assert not found["dmic"].error
    assert "'dmic' is taken twice: by methods.dmic:DMIC" in found["dmic (copy-package)"].error


def test_of_two_plugins_with_one_name_neither_can_be_used(site: Path) -> None:
    for package in ("one", "two"):
        install(site, package, "reidbench.methods", f"{package}_module:Other", METHOD.format(name="other"))
    found = registry.methods()
    assert "taken twice" in found["other"].error
    assert sum("taken twice" in entry.error for entry in found.values()) == 2


def test_an_entry_point_may_be_a_module_of_one_class(site: Path) -> None:
    install(site, "whole", "reidbench.methods", "whole_module", METHOD.format(name="whole"))
    entry = registry.methods()["whole"]
    assert (entry.error, entry.target, entry.version) == ("", "whole_module:Other", "1.0")
    two = METHOD.format(name="two") + METHOD.format(name="three").replace("Other", "Another")
    install(site, "several", "reidbench.methods", "several_module", two)
    registry.forget()
    assert "Other, Another for a method; name one class" in registry.methods()["entry"].error


@pytest.mark.parametrize(
    ("group", "source", "reason"),
    [
        (
            "methods",
            "from methods.base import Method\nclass Other(Method): name = 'x'",
            "lacks the methods begin_epoch",
        ),
        (
            "protocols",
            "from protocols.regdb import RegDB\nfrom protocols.base import Protocol\nclass Other(Protocol):\n"
            "    id = 'x'\n    trials = RegDB.trials\n    score = RegDB.score",
            "lacks the attributes summary, dataset",
        ),
    ],
)
def test_what_a_plugin_lacks_is_named(site: Path, group: str, source: str, reason: str) -> None:
    install(site, "half", f"reidbench.{group}", f"half_{group}:Other", source)
    found = registry.methods() if group == "methods" else registry.protocols()
    assert f"the package half is broken: TypeError: half_{group}:Other {reason}" in found["entry"].error


def test_a_file_that_is_not_python_is_named(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text("a = 1\nclass Half(:\n")
    with pytest.raises(HarnessError, match=r"half\.py, line 2"):
        parse_module(tmp_path / "half.py")


def test_a_file_that_is_being_written_takes_nothing_else_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(registry.CODE / "methods", tmp_path / "methods")
    (tmp_path / "methods" / "mine.py").write_text("class Mine(:\n")
    monkeypatch.setattr(registry, "CODE", tmp_path)
    found = {entry.name: entry for entry in registry.scan(registry.METHOD)}
    assert "mine.py, line 1: not valid Python" in found.pop("mine").error
    assert "dmic" in found
    assert not any(entry.error for entry in found.values())
    with pytest.raises(HarnessError, match=r"method 'mine' cannot be used: .*mine\.py, line 1"):
        registry.load("mine", registry.METHOD, registry.unique(registry.scan(registry.METHOD)))
