"""The HTML pages of this package: one skeleton, one style, and a policy that allows nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def page(name: str, script: dict[str, object] | None = None, **values: object) -> str:
    """Return the page of a template; values are escaped, and one that is missing is an error.

    Parameters
    ----------
    name : str
        ``report`` or ``leaderboard``: the template, and the title.
    script : dict, optional
        Values of the template of the same name with the page's script. A page with a script may have images in it too.
    values
        Of the template.
    """
    environment = Environment(
        loader=PackageLoader("results"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = environment.get_template("report.css").render()
    js = environment.get_template(f"{name}.js").render(script) if script else ""
    scripts = f"img-src data:; script-src '{digest(js)}'; " if script else ""
    policy = f"default-src 'none'; {scripts}style-src '{digest(css)}'; base-uri 'none'; form-action 'none'"
    # files of this package, not of runs
    ours = {"css": Markup(css), "js": Markup(js), "policy": Markup(policy)}
    return environment.get_template(f"{name}.html").render(name=name, **ours, **values)


def digest(text: str) -> str:
    """Return what a policy calls an inline text by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
