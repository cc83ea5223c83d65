"""A study's TOML file: what it may say, and every fault of what it says, in words."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from passband.errors import ParameterError, PassbandError
from passband.generalise.conditions import RARE, Axes, shown
from passband.generalise.study import Structures, Study, StudyFaultsError, Training
from passband.hrtem.dataset.dataset import Dataset, open_dataset
from passband.store.toml import read_toml
from passband.words import listed, meant

_NUMBERS = ("defocus_nm", "cs_mm", "focal_spread", "dose", *RARE)
_AXES = (*_NUMBERS, "materials", "diameter_nm", "dataset")
_PARTICLES = ("materials", "diameter_nm")
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
    return study_from_tables(tree, source=str(path), beside=Path(path).parent)


def study_from_tables(tree: Mapping[str, Any], *, source: str, beside: Path | None = None) -> Study:
    """Make a study from the tables of a TOML file.

    Parameters
    ----------
    tree
        Tables "study", "structures", "train", "test", "fixed"; every key may be missing.
    source
        Named in the error.
    beside
        Folder that datasets are named from; the working directory if not given.

    Raises
    ------
    ParameterError
        Naming every fault.
    """
    tables, faults = _typed(tree)
    given, structures = tables["study"], tables["structures"]
    shared = {**{n: (structures.pop(n),) for n in _PARTICLES if n in structures}, **tables["fixed"]}
    for name in tables["fixed"].keys() & set(_AXES):
        if all(name in tables[side] for side in _SIDES):
            faults.append(f"fixed.{name} is said in [train] and in [test] too; leave it out of [fixed]")
    said = {}
    for side in _SIDES:
        for name in shared.keys() & set(_AXES) - tables[side].keys():
            said[f"{side}.{name}"] = f"{'fixed' if name in tables['fixed'] else 'structures'}.{name}"
            tables[side][name] = shared[name]
    datasets = _Datasets(beside or Path())
    for side in _SIDES:
        faults += datasets.take(side, tables[side], named=tree.get(side))
    fixed, more = datasets.settings(tables["fixed"], given.get("crop", Training().crop))
    failed = [fault.split(" ")[0].partition(".") for fault in faults]
    training = {**given, **tables["train"], **fixed}
    try:
        study = Study(
            **{k: v for k, v in given.items() if k in ("name", "seeds", "evidence")},
            **({"networks": given["network"]} if "network" in given else {}),
            train=Axes(**{n: v for n, v in tables["train"].items() if n in _AXES}),
            test=Axes(**{n: v for n, v in tables["test"].items() if n in _AXES}),
            training=Training(**{f.name: training[f.name] for f in fields(Training) if f.name in training}),
            structures=Structures(**structures),
            datasets=datasets.folders(),
        )
    except StudyFaultsError as e:
        follow = {f"{side}.{name}" for table, _, name in failed for side in (table, *_SIDES)}
        faults += [_where_said(f, said) for f in e.faults if f.split(" ")[0] not in follow]
    faults += more
    if faults:
        raise ParameterError(listed(source, list(dict.fromkeys(faults)), "the study"))
    return study


def _where_said(fault: str, said: Mapping[str, str]) -> str:
    """A fault of both sides, named after the one place that it stands in."""
    for name, place in said.items():
        if fault.startswith(name):
            return place + fault.removeprefix(name)
    return fault


class _Datasets:
    """Datasets that a study names, opened to see whether they serve it."""

    def __init__(self, beside: Path) -> None:
        self.beside = beside
        self.found: dict[str, tuple[Path, Dataset]] = {}

    def take(self, side: str, table: dict[str, Any], *, named: Any) -> list[str]:
        """Put names in the place of a side's folders, and tell what is wrong with them."""
        if "dataset" not in table:
            return []
        if not table["dataset"]:
            return [f"{side}.dataset is empty: give at least one folder, or leave it out"]
        faults, names = [], []
        for folder in table["dataset"]:
            path = (self.beside / folder).resolve()
            try:
                dataset = open_dataset(path)
            except PassbandError as e:
                faults.append(f"{side}.dataset: {e}")
                continue
            if not dataset.split(side):
                faults.append(f"{side}.dataset: {folder} has no scenes to {side} on; see its [splits]")
            names.append(f"{path.name}@{dataset.study.digest()[:8]}")
            self.found[names[-1]] = path, dataset
        told = [n for n in _PARTICLES if isinstance(named, dict) and n in named]
        if told:
            faults.append(f"{side}.{told[0]} is what the dataset says itself; leave one of them out")
        table |= {"dataset": tuple(names or [""]), **({n: ((),) for n in _PARTICLES} if names else {})}
        return faults

    def settings(self, fixed: Mapping[str, Any], crop: int) -> tuple[dict[str, Any], list[str]]:
        """Energy and pixels, which datasets say unless the study does, and where they differ."""
        settings, faults = dict(fixed), []
        for name, (path, dataset) in self.found.items():
            pixel = dataset.study.imaging.pixel_size
            for key, value in (("energy_kev", dataset.study.wave.energy / 1e3), ("pixel_size", pixel)):
                if not math.isclose(settings.setdefault(key, value), value):  # type: ignore[arg-type]
                    faults.append(
                        f"dataset {name} in {path} has {key} {value:g}, and the study {settings[key]:g}; "
                        "all scenes of a study share it"
                    )
            side = min(dataset.study.specimen.field or dataset.study.specimen.cell)
            if side < crop * float(pixel):  # type: ignore[arg-type]
                faults.append(
                    f"study.crop of {crop} pixels is larger than the scenes of dataset {name}, {side:g} Å of "
                    f"pixels of {pixel:g} Å"
                )
        return settings, faults

    def folders(self) -> tuple[tuple[str, str], ...]:
        """Of each dataset its name and where it lies."""
        return tuple((name, str(path)) for name, (path, _) in sorted(self.found.items()))


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


def _yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _FaultError("true or false")
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


def _ranges(value: Any) -> tuple[tuple[float, float], ...]:
    """One range, or a list of ranges."""
    several = isinstance(value, list) and value and all(isinstance(v, list) for v in value)
    try:
        return tuple(map(_pair(_number, "numbers"), value if several else [value]))
    except _FaultError as e:
        raise _FaultError("[lowest, highest], or a list of such pairs as an axis") from e


def _folders(value: Any) -> tuple[str, ...]:
    try:
        return _texts(value)
    except _FaultError as e:
        raise _FaultError("the folder of a dataset, or a list of folders as an axis") from e


def _network(value: Any) -> tuple[str, ...]:
    try:
        return _texts(value)
    except _FaultError as e:
        raise _FaultError("a text, or a list of texts as an axis") from e


def _one_range(value: Any) -> tuple[tuple[float, float]]:
    return (_pair(_number, "numbers")(value),)


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
    **dict.fromkeys(_NUMBERS, _numbers),
    "materials": _materials,
    "diameter_nm": _ranges,
    "dataset": _folders,
}
_FIXED: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_NUMBERS, _one(_numbers, "one number")),
    "materials": _one(_materials, "one text"),
    "diameter_nm": _one_range,
    "dataset": _one(_folders, "one folder"),
}
_KNOWN: dict[str, dict[str, Callable[[Any], Any]]] = {
    "study": {
        "name": _text,
        "network": _network,
        "seeds": _whole,
        "steps": _whole,
        "crop": _whole,
        "evidence": _yes_or_no,
    },
    "structures": {
        "materials": _texts,
        "scenes": _whole,
        "test_share": _number,
        "diameter_nm": _pair(_number, "numbers"),
        "particles": _pair(_whole, "whole numbers"),
        "field_nm": _number,
        "thickness_nm": _pair(_number, "numbers"),
        "seed": _whole,
        "test_images": _whole,
        "test_side": _whole,
    },
    "train": _AXIS,
    "test": _AXIS,
    "fixed": {"energy_kev": _number, "pixel_size": _number, **_FIXED},
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
                near = difflib.get_close_matches(name, list(_KNOWN[table]), 1, 0.8)
                cure = meant(name, list(_KNOWN[table])) if near or not homes else ""
                if homes:
                    cure += f"{' Or ' if cure else ''}it belongs in [{homes[0]}]"
                faults.append(f"{table}.{name} is not known; {cure}")
                continue
            try:
                tables[table][name] = _KNOWN[table][name](value)
            except _FaultError as e:
                faults.append(f"{table}.{name} must be {e}, got {shown(value)}")
    return tables, faults
