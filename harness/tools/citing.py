"""BibTeX of the methods and data sets that runs used (``reidbench cite``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.registry import CODE, OURS, datasets, load_dataset
from harness.tools.papers import reference_words
from results.manifests import finished_manifests

SOFTWARE = """@software{reidbench,
  title = {reidbench: a reproducibility benchmark harness for unsupervised visible-infrared person re-identification},
  note = {CITATION.cff names the version},
}"""


def citations(paths: Sequence[Path], where: Sequence[str] = ()) -> str:
    """Return entries for every method and data set of the finished runs below `paths`, and for this software.

    Raises
    ------
    ResultsError
        As :func:`results.manifests.finished_manifests` does.
    """
    specs = [manifest["spec"] for manifest in finished_manifests(paths, where)]
    methods = sorted({str(spec.get("method")) for spec in specs})
    used = sorted({str(spec["dataset"]) for spec in specs})
    entries = [method_entry(name) for name in methods]
    entries += [dataset_entry(name) for name in used]
    return "\n\n".join([*(one for one in entries if one), SOFTWARE]) + "\n"


def dataset_entry(name: str) -> str:
    """Return the entry of a data set: ours from their file, another's from its attribute ``citation``."""
    entry = datasets().get(name)
    if entry is None or entry.error:
        return ""
    if entry.origin != OURS:
        return str(getattr(load_dataset(name), "citation", ""))
    text = (CODE / "protocols" / "citations.bib").read_text(encoding="utf-8")
    return next((one.strip() for one in text.split("\n\n") if f"{{{name}," in one.partition("\n")[0]), "")


def method_entry(name: str) -> str:
    """Return the entry of a method's paper; empty for one without a paper."""
    said = reference_words(name)
    if not {"title", "venue", "year"} <= said.keys():
        return ""
    title, venue, year, url = (said.get(key, "") for key in ("title", "venue", "year", "url"))
    arxiv = re.search(r"arXiv (\d{4}\.\d{4,5})", venue)
    where = re.sub(r",? ?arXiv \d{4}\.\d{4,5}", "", venue.partition(";")[0]).strip(" ,")
    lines = [f"@misc{{{name},", f"  title = {{{title}}},", f"  year = {{{year}}},"]
    lines += [f"  howpublished = {{{where}}},"] if where else []
    lines += ["  archiveprefix = {arXiv},", f"  eprint = {{{arxiv[1]}}},"] if arxiv else []
    lines += [f"  url = {{{url}}},"] if url else []
    return "\n".join([*lines, "}"])
