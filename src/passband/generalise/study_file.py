"""A study's TOML file: what it may say, and every fault of what it says, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from passband.errors import ParameterError
from passband.generalise.study import Axes, Structures, Study, StudyFaultsError, Training, shown
from passband.store.toml import read_toml
from passband.words import listed, meant

_AXES = ("defocus_nm", "cs_mm", "focal_spread", "dose", "materials")
_SIDES = ("train", "test")


def read_study(path: str | Path) -> Study:
    r"""Read a study from a TOML file.

    Raises
    ------
    ParameterError
        If the file is missing or no TOML, or naming every fault of its values.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "study.toml")
    ...     _ = path.write_text("[train]\ndefocus_nm = [-10, 10]\n[fixed]\ndose = 100")
    ...     study = read_study(path)
    >>> study.run_count, study.train.dose
    (2, (100.0,))
    """
    tree = read_toml(path, wanted="a study", example="`[train]` and `defocus_nm = [-10, 10]`")
    return study_from_tables(tree, source=str(path))


def study_from_tables(tree: Mapping[str, Any], *, source: str) -> Study:
    """Make a study from the tables of a TOML file.

    Parameters
    ----------
    tree
        Tables "study", "structures", "train", "test", "fixed"; every key may be missing.
    source
        Named in the error.

    Raises
    ------
    ParameterError
        Naming every fault.
    """
    tables, faults = _typed(tree)
    given, structures = tables["study"], tables["structures"]
    for name in tables["fixed"].keys() & set(_AXES):
        if all(name in tables[side] for side in _SIDES):
            faults.append(f"fixed.{name} is said in [train] and in [test] too; leave it out of [fixed]")
        for side in _SIDES:
            tables[side].setdefault(name, tables["fixed"][name])
    named = [m for side in _SIDES for entry in tables[side].get("materials", ()) for m in entry]
    if named:
        structures.setdefault("materials", tuple(sorted(set(named))))
    mixed = (tuple(sorted(structures.get("materials", Structures().materials))),)
    axes = {
        side: Axes(**{"materials": mixed, **{n: tables[side][n] for n in _AXES if n in tables[side]}})
        for side in _SIDES
    }
    training = {**given, **tables["train"], **tables["fixed"]}
    try:
        study = Study(
            **{k: v for k, v in given.items() if k in ("name", "seeds")},
            train=axes["train"],
            test=axes["test"],
            training=Training(**{f.name: training[f.name] for f in fields(Training) if f.name in training}),
            structures=Structures(**structures),
        )
    except StudyFaultsError as e:
        faults += e.faults
    if faults:
        raise ParameterError(listed(source, faults, "the study"))
    return study


class _FaultError(Exception):
    """What was wanted."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _FaultError("text")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _FaultError("a whole number")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise _FaultError("a number")
    return float(value) + 0.0  # of -0.0 and 0.0 one


def _pair(of: Callable[[Any], Any], words: str) -> Callable[[Any], tuple[Any, Any]]:
    def pair(value: Any) -> tuple[Any, Any]:
        try:
            low, high = map(of, value if isinstance(value, list) else [value, value])
        except (_FaultError, ValueError, TypeError) as e:
            raise _FaultError(f"[lowest, highest], two {words}") from e
        return low, high

    return pair


def _texts(value: Any) -> tuple[str, ...]:
    try:
        return tuple(map(_text, value if isinstance(value, list) else [value]))
    except _FaultError as e:
        raise _FaultError('a list of texts, as ["CdSe", "Au"]') from e


def _numbers(value: Any) -> tuple[float, ...]:
    try:
        return tuple(map(_number, value if isinstance(value, list) else [value]))
    except _FaultError as e:
        raise _FaultError("a number, or a list of numbers as an axis") from e


def _materials(value: Any) -> tuple[tuple[str, ...], ...]:
    """On an axis each entry is one material."""
    return tuple((name,) for name in _texts(value))


def _one(of: Callable[[Any], tuple[Any, ...]], words: str) -> Callable[[Any], tuple[Any, ...]]:
    def one(value: Any) -> tuple[Any, ...]:
        if isinstance(value, list):
            raise _FaultError(f"{words}: an axis, a list, belongs in [train] or [test]")
        try:
            return of(value)
        except _FaultError as e:
            raise _FaultError(words) from e

    return one


_AXIS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_AXES[:-1], _numbers),
    "materials": _materials,
}
_KNOWN: dict[str, dict[str, Callable[[Any], Any]]] = {
    "study": {"name": _text, "network": _text, "seeds": _whole, "steps": _whole, "crop": _whole},
    "structures": {
        "materials": _texts,
        "scenes": _whole,
        "test_share": _number,
        "diameter_nm": _pair(_number, "numbers"),
        "particles": _pair(_whole, "whole numbers"),
        "field_nm": _number,
        "thickness_nm": _pair(_number, "numbers"),
        "seed": _whole,
    },
    "train": {**_AXIS, "jitter_nm": _number},
    "test": _AXIS,
    "fixed": {
        "energy_kev": _number,
        "pixel_size": _number,
        **{n: _one(of, "one text" if n == "materials" else "one number") for n, of in _AXIS.items()},
    },
}


def _typed(tree: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The tables with values of the right types, and what is at fault, which is left out."""
    tables: dict[str, dict[str, Any]] = {name: {} for name in _KNOWN}
    faults = []
    for table, content in tree.items():
        if table not in _KNOWN:
            homes = [t for t in _KNOWN if table in _KNOWN[t]]
            cure = f"it belongs in [{homes[0]}]" if homes else meant(table, list(_KNOWN))
            faults.append(f"{table} is not known; {cure}")
            continue
        if not isinstance(content, dict):
            faults.append(f"{table} must be a table, [{table}], got {shown(content)}")
            continue
        for name, value in content.items():
            if name not in _KNOWN[table]:
                homes = [t for t in _KNOWN if name in _KNOWN[t]]
                cure = f"it belongs in [{homes[0]}]" if homes else meant(name, list(_KNOWN[table]))
                faults.append(f"{table}.{name} is not known; {cure}")
                continue
            try:
                tables[table][name] = _KNOWN[table][name](value)
            except _FaultError as e:
                faults.append(f"{table}.{name} must be {e}, got {shown(value)}")
    return tables, faults
