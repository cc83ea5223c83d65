"""What every page is written with: words, names of scores, and figures in the reader's ink."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from passband.drawing.saving import ACCENT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Ink follows the reader's choice of light or dark; an image sees that choice but not the page's colours.
_INK = (
    f"<style>svg{{color:#1c1f23;--accent:{ACCENT};fill:currentColor}}"
    "@media (prefers-color-scheme:dark){svg{color:#e8eaed;--accent:#8fbce6}}</style>"
)

LABELS = {"f1": "F1", "precision": "Precision", "recall": "Recall"}


def counted(n: int, noun: str) -> str:
    """Number and noun, in the plural where there is not one."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def number_text(value: float) -> str:
    """A number to three digits, without an exponent where that is readable.

    Examples
    --------
    >>> number_text(1614.2), number_text(0.04567)
    ('1610', '0.0457')
    """
    return f"{float(f'{value:.3g}'):g}"


def short_paths(paths: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that all paths share, and each path from there.

    Examples
    --------
    >>> short_paths(["run/a/1.tif", "run/b/1.tif"])
    ('run', ['a/1.tif', 'b/1.tif'])
    """
    folders = {os.path.dirname(p) for p in paths}  # noqa: PTH120
    try:
        shared = os.path.commonpath(folders) if folders else ""
    except ValueError:  # absolute and relative paths together
        shared = ""
    if shared in ("", os.path.sep):
        return "", list(paths)
    cut = len(shared) + 1
    return shared, [p[cut:] for p in paths]


def words_html(words: str) -> str:
    """Escaped words, with what stands `between backticks` as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(words))


def figure_html(figure: Figure, words: tuple[str, str]) -> str:
    """A figure within a page.

    Parameters
    ----------
    figure
        Its first axes' title becomes part of the description for readers who do not see it.
    words
        Heading and caption.

    Returns
    -------
    str
        HTML without outside resources; black and the accent follow the reader's light or dark.
    """
    heading, caption = (escape(w) for w in words)
    title = escape(figure.axes[0].get_title(), quote=True)
    return (
        f'<figure><img alt="{heading}. {title}" src="data:image/svg+xml;base64,{_svg(figure)}">'
        f"<figcaption><b>{heading}.</b> {caption}</figcaption></figure>"
    )


def _svg(figure: Figure) -> str:
    """A figure as base64 SVG on no ground, whose black is the ink of the reader's choice."""
    import matplotlib

    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    content = io.BytesIO()
    # The same figure gives the same bytes: neither date nor random names.
    with matplotlib.rc_context({"svg.hashsalt": "passband"}):
        figure.savefig(content, format="svg", metadata={"Date": None}, dpi=110)
    text = content.getvalue().decode("utf-8").replace("#000000", "currentColor")
    text = text.replace(ACCENT, "var(--accent)")
    start = text.index(">", text.index("<svg")) + 1
    return base64.b64encode((text[:start] + _INK + text[start:]).encode()).decode()
