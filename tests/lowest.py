"""Prints the lowest versions that pyproject.toml allows, as `make test-lowest` installs them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
WITH = ("pytest", "hypothesis")
"""What the tests need of the extra `dev`."""


def lowest() -> list[str]:
    """Return ``name==2.6.*`` for every dependency ``name>=2.6``."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extra = [one for one in project["optional-dependencies"]["dev"] if one.startswith(WITH)]
    found = [re.fullmatch(r"([\w-]+)>=([\d.]+)", one) for one in [*project["dependencies"], *extra]]
    return [f"{one[1]}=={one[2]}.*" for one in found if one]


if __name__ == "__main__":
    print(" ".join(lowest()))
