"""Figures inside a page, in ink that follows the reader's choice of light or dark."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

from passband import plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Ink follows the reader's choice of light or dark; an image sees that choice but not the page's colours.
_INK = (
    f"<style>svg{{color:#1c1f23;--accent:{plot.ACCENT};fill:currentColor}}"
    "@media (prefers-color-scheme:dark){svg{color:#e8eaed;--accent:#8fbce6}}</style>"
)


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
    text = text.replace(plot.ACCENT, "var(--accent)")
    start = text.index(">", text.index("<svg")) + 1
    return base64.b64encode((text[:start] + _INK + text[start:]).encode()).decode()
