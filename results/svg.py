"""Figures as part of a page: SVG that needs no style of its own, follows the page's theme, and keeps its ids apart."""

from __future__ import annotations

import re

from matplotlib.figure import Figure

from results.figures.style import INK, to_svg

__all__ = ["inline_svg"]

HEAD = re.compile(r"^.*?(?=<svg )", re.S)
DROPPED = re.compile(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", re.S)
STYLE = re.compile(r' style="([^"]*)"')
OWN_ID = re.compile(r'( id="| xlink:href="#| href="#|url\(#)')
SPACES = re.compile(r' xmlns(:xlink)?="[^"]*"')
SIZE = re.compile(r'<svg ([^>]*?)width="[^"]*" ?([^>]*?)height="[^"]*"')
ATTRIBUTES = re.compile(r"^(fill|stroke|opacity|clip|color|font|text)[a-z-]*$")
BLANKS = re.compile(r"\s+")
EMPTY = re.compile(r"<defs>\s*</defs>")


def inline_svg(figure: Figure, name: str, words: str) -> str:
    """Return a figure as an ``svg`` element, told to who cannot see it by `words`.

    A policy that allows no inline styles lets it through: what styles say is said by attributes. Ink is the page's
    colour of texts; paper and the ids' beginning `name` are the page's matter.

    Parameters
    ----------
    name : str
        Letters, digits and hyphens.
    """
    text = DROPPED.sub("", HEAD.sub("", to_svg(figure)))
    text = STYLE.sub(attributes, text)
    text = OWN_ID.sub(rf"\1{name}-", text).replace(INK, "currentColor")
    text = SPACES.sub("", SIZE.sub(r"<svg \1\2", text, count=1))
    label = escaped(words)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return BLANKS.sub(" ", EMPTY.sub("", text)).strip()


def attributes(match: re.Match[str]) -> str:
    """Return the declarations of a style as presentation attributes; what is none is left out."""
    found = []
    for declaration in match[1].split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if ATTRIBUTES.match(key):
            found.append(f' {key}="{value}"')
    return "".join(found)


def escaped(text: str) -> str:
    """Escape a text for an attribute."""
    for character, entity in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return text
