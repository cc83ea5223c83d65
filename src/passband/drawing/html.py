"""Every page: words, names of scores, and templates filled in under one policy."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

LABELS = {"f1": "F1", "precision": "Precision", "recall": "Recall"}


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


def data_address(content: bytes, kind: str) -> str:
    """What a page embeds a picture by.

    Examples
    --------
    >>> data_address(b"picture", "image/webp")
    'data:image/webp;base64,cGljdHVyZQ=='
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def page(template: str, **values: Any) -> str:
    """A self-contained page, which a browser lets run nothing but its own script.

    Parameters
    ----------
    template
        Its place within the package; it extends ``drawing/base.html``.
    values
        What the template shows. Each is escaped, wherever it stands; a missing one is an error.

    Returns
    -------
    str
        HTML, the same for the same arguments.

    Examples
    --------
    >>> made = page("drawing/base.html", title="<script>", headline="{{ 7 * 7 }}", subtitle="", footer="")
    >>> "<title>&lt;script&gt;" in made, "{{ 7 * 7 }}" in made
    (True, True)
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("passband", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["policy"] = _policy
    environment.filters["coded"] = _coded
    environment.filters["px"] = "{:.1f}".format
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


def _policy(style: str, script: str) -> Markup:
    """The Content-Security-Policy of a page: embedded pictures, this style and this script, nothing else."""
    from markupsafe import Markup

    allowed = {"default-src": "'none'", "img-src": "data:", "style-src": _sha256(style)}
    if script:
        allowed["script-src"] = _sha256(script)
    allowed |= {"base-uri": "'none'", "form-action": "'none'"}
    return Markup("; ".join(f"{what} {where}" for what, where in allowed.items()))


def _sha256(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _coded(words: str) -> Markup:
    """Escaped words, with what stands `between backticks` as code."""
    from markupsafe import Markup, escape

    # Of a plain text: what is escaped already would be escaped again as its parts are joined.
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(words))))
