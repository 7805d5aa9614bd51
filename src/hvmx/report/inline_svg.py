"""A figure of matplotlib as an element of a page: in the page's colours and font, with links and what is said of its parts."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FONT = re.compile(r"font-family: [^;]*; ?")
"""The page's own is meant."""

_REFERENCE = re.compile(r"url\(#(.+?)\)|^#(.+)")


def inline_svg(figure: Figure, name: str, label: str, colours: Mapping[str, str]) -> ElementTree.Element:
    """``name`` is that of no other figure of the page, ``label`` is read out in the figure's place, and ``colours`` are those
    of the page, by the figure's own.

    The id of a group of the figure, unless it is one that matplotlib gave, is shown when the group is pointed at.
    """
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(out.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        element.attrib.pop("target", None)  # a link leads to another place of the page, in the same window
        element.tail = None
        if element.tag != "text":
            element.text = None
    for parent in root.iter():
        for child in [child for child in parent if child.tag in ("metadata", "style")]:
            parent.remove(child)
    referred = {
        found[1] or found[2]
        for element in root.iter()
        for key, value in element.attrib.items()
        if element.tag != "a" and key in ("href", "clip-path", "fill", "style")
        for found in _REFERENCE.finditer(value)
    }
    for element in root.iter():
        _adapt(element, name, referred, colours)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "group", "aria-label": label}
    return root


def _adapt(element: ElementTree.Element, name: str, referred: set[str], colours: Mapping[str, str]) -> None:
    """Colours, the ids of this figure alone, and titles in the place of ids that say something."""
    for key, value in element.attrib.items():
        for colour, ours in colours.items():
            value = value.replace(colour, ours)
        if key == "style":
            value = _FONT.sub("", value)
        if element.tag != "a":
            value = _REFERENCE.sub(lambda found: found[0].replace("#", f"#{name}-"), value)
        element.attrib[key] = value
    own = element.attrib.pop("id", "")
    if own in referred:
        element.attrib["id"] = f"{name}-{own}"
    elif " " in own:
        title = ElementTree.Element("title")
        title.text = own
        element.insert(0, title)
