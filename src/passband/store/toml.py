"""TOML files that people write, read with words for what is wrong with them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from passband.errors import ParameterError


def read_toml(path: str | Path, *, wanted: str, example: str) -> dict[str, Any]:
    """The tables of a TOML file.

    Parameters
    ----------
    path
        Of the file.
    wanted
        What it was to be, and an example of what such a file holds, for the error.

    Raises
    ------
    ParameterError
        If it is missing, no text, or no TOML.
    """
    try:
        text = Path(path).read_text("utf-8")
    except UnicodeDecodeError as e:
        raise ParameterError(f"{path} is no text, wanted {wanted} as a TOML file") from e
    except OSError as e:
        raise ParameterError(f"{path} cannot be read ({e.strerror}), wanted {wanted} as a TOML file") from e
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ParameterError(f"{path} is not TOML: {e}; wanted {wanted}, with {example} say") from e
