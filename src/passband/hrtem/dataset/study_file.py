"""A study's TOML file: what it may say, and every fault of what it says, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from passband.errors import ParameterError, PassbandError
from passband.hrtem.dataset.study import ADDED, SimulationStudy, Splits, StudyError, shown_value
from passband.hrtem.specimen.files import read_material
from passband.hrtem.specimen.materials import MATERIALS
from passband.hrtem.specimen.specimen import SpecimenRanges
from passband.hrtem.wave.scattering import WaveSettings
from passband.optics.conditions import ConditionRanges
from passband.store.sealed import load
from passband.store.toml import read_toml
from passband.words import listed, meant


def read_study(path: str | Path) -> SimulationStudy:
    r"""Read a study from a TOML file.

    Lengths are in Å, energies in eV, angles in rad, doses in e/Å². A value of ``[imaging]`` is a number,
    ``{low = , high = }``, ``{mean = , deviation = }`` or ``{values = [...]}``. There ``defocus`` (positive
    is underfocus) may stand for ``C10``. ``crystals`` of ``[specimen]`` is a table of names and CIF files; of
    a dataset's own ``study.toml``, away from these files, its manifest holds what they said.

    Raises
    ------
    ParameterError
        If the file is missing or no TOML, or naming every fault of its values and of those files.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "study.toml")
    ...     _ = path.write_text("scenes = 8\n[imaging]\ndefocus = {low = 50, high = 250}")
    ...     read_study(path).imaging.C10
    Uniform(low=-250.0, high=-50.0)
    """
    tree = read_toml(path, wanted="a study", example="`scenes = 100`")
    tree, faults = _with_crystals(tree, Path(path))
    return _study(tree, source=str(path), faults=faults)


def _with_crystals(tree: dict[str, Any], path: Path) -> tuple[dict[str, Any], list[str]]:
    """The tables with the content of CIF files in the place of their names."""
    specimen = tree.get("specimen")
    if not isinstance(specimen, dict) or "crystals" not in specimen:
        return tree, []
    named = specimen["crystals"]
    if not isinstance(named, dict) or not all(isinstance(v, str) for v in named.values()):
        example = 'such as {Pt = "Pt.cif"}'
        fault = (
            f"specimen.crystals must be a table of names and CIF files, {example}, got {shown_value(named)}"
        )
        return {**tree, "specimen": {k: v for k, v in specimen.items() if k != "crystals"}}, [fault]
    read, faults = [], []
    for name, file in named.items():
        try:
            read.append(_crystal(name, file, path.parent))
        except PassbandError as e:
            faults.append(f"specimen.crystals.{name}: {e}")
            read.append(asdict(replace(next(iter(MATERIALS.values())), name=name)))  # the rest is looked at
    return {**tree, "specimen": {**specimen, "crystals": read}}, faults


def _crystal(name: str, file: str, folder: Path) -> dict[str, Any]:
    """What a CIF beside a study says; where it is gone, what the dataset beside the study keeps of it."""
    manifest = folder / "manifest.json"
    if not (folder / file).exists() and manifest.exists():
        held, _ = load(manifest)
        kept = held.get("study", {}).get("specimen", {}).get("crystals", [])
        found: dict[str, Any] | None = next((c for c in kept if c["name"] == name), None)
        if found is not None:
            return found
    return asdict(read_material(folder / file, name=name))


def study_from_values(tree: Mapping[str, Any], *, source: str) -> SimulationStudy:
    """Make a study from what `SimulationStudy.values` gave, of this version or of an older one.

    Parameters
    ----------
    tree
        Nested mappings. Where no substrate is told, carbon is packed at random, as it once always was.
    source
        Named in the error.

    Raises
    ------
    ParameterError
        Naming every fault: unknown names with what may have been meant, wrong types, values that the
        physics does not allow.
    """
    specimen = tree.get("specimen", {})
    if isinstance(specimen, Mapping):
        specimen = {"substrates": ADDED["specimen"]["substrates"], **specimen}
    return _study({**tree, "specimen": specimen}, source=source, faults=[])


def _study(tree: Mapping[str, Any], *, source: str, faults: list[str]) -> SimulationStudy:
    from pydantic import ValidationError

    values, more = _prepared(tree)
    faults = [*faults, *more]
    while True:
        try:
            study: SimulationStudy = _adapter().validate_json(
                json.dumps(values, default=str), strict=True, extra="forbid"
            )
            break
        except ValidationError as e:
            # What is at fault is taken out and the rest looked at again, so that all faults are named.
            errors = e.errors(include_url=False)
            found = list(dict.fromkeys(_words(errors, values)))
            faults += [f for f in found if f not in faults]
            if not _remove(errors, values):
                break
    if faults:
        raise ParameterError(listed(source, faults, "the study"))
    return study


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(SimulationStudy)


def _infinite(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {k: _infinite(v) for k, v in tree.items()}
    if isinstance(tree, list):
        return [_infinite(v) for v in tree]
    return float(tree) if isinstance(tree, str) and tree in ("inf", "-inf") else tree


def _prepared(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A copy where ``defocus`` is C10, and the images' energy and pixel size are the wave's."""
    values: dict[str, Any] = _infinite(tree)
    faults = []
    imaging = values.setdefault("imaging", {})
    if isinstance(imaging, dict):
        if "defocus" in imaging:
            if "C10" in imaging:
                faults.append("imaging.defocus and imaging.C10 say the same (C10 = -defocus): give one")
            defocus = imaging.pop("defocus")
            low, high = (defocus.get(k) for k in ("low", "high")) if isinstance(defocus, dict) else (0, 0)
            if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low > high:
                faults.append(f"imaging.defocus: low must not exceed high, got {shown_value(defocus)}")
            else:
                imaging.setdefault("C10", _negated(defocus))
        wave = values.get("wave", {})
        for name, default in _shared_defaults().items():
            said = wave.get(name) if isinstance(wave, dict) else None
            imaging.setdefault(name, said if isinstance(said, (int, float)) and said is not True else default)
    return values, faults


def _shared_defaults() -> dict[str, Any]:
    """What images have in common with the wave, where the study does not say."""
    return {f.name: f.default for f in fields(ConditionRanges) if f.name in ("energy", "pixel_size")}


def _negated(value: Any) -> Any:
    """A range of defocus as one of C10; what is no range is left for the check of types."""
    if isinstance(value, dict):
        swapped = {"low": "high", "high": "low"}
        same = ("deviation",)
        return {swapped.get(k, k): v if k in same else _negated(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_negated(v) for v in value]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return -value + 0.0 if number else value


_RANGES = {"float": (), "Uniform": ("low", "high"), "Normal": ("mean", "deviation"), "Grid": ("values",)}


_A_RANGE = "a number, {low = , high = }, {mean = , deviation = } or {values = [...]}"


def _words(errors: list[Any], values: Mapping[str, Any]) -> Iterator[str]:
    """Each fault in words; those of the kinds of range that were not meant are left out."""
    for error in errors:
        loc = list(error["loc"])
        kinds = [i for i, part in enumerate(loc) if part in _RANGES and i]
        if kinds:
            i = kinds[0]
            given = _at(values, loc[:i])
            meant = _meant(given)
            name = ".".join(map(str, loc[:i]))
            if meant is None or meant == "float":
                yield f"{name} must be {_A_RANGE}, got {shown_value(given)}"
                continue
            if loc[i] != meant:
                continue
            del loc[i]
        if error["type"] == "value_error" and isinstance(error["ctx"]["error"], StudyError):
            yield from error["ctx"]["error"].faults
        else:
            yield _fault(".".join(map(str, loc)), error)


def _fault(name: str, error: Mapping[str, Any]) -> str:
    kind, given = error["type"], error["input"]
    if kind == "unexpected_keyword_argument":
        parent, _, key = name.rpartition(".")
        known = _names(parent)
        cure = meant(key, known) if known else "leave it out"
        return f"{name} is not known; {cure}"
    if kind == "missing":
        return f"{name} is missing"
    if kind == "value_error":
        words = str(error["ctx"]["error"])
        return words if not name or words.startswith(name) else f"{name}: {words}"
    wanted = _WANTED.get(kind) or str(error["msg"]).removeprefix("Input should be ")
    return f"{name} must be {wanted}, got {shown_value(given)}"


_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "tuple_type": "a list [...]",
    "dataclass_type": "a table",
    "bool_type": "true or false",
    "string_type": "text",
}


def _names(parent: str) -> list[str]:
    """Names known in a table of the study."""
    of: Any = SimulationStudy
    for part in filter(None, parent.split(".")):
        kinds = {
            "splits": Splits,
            "specimen": SpecimenRanges,
            "wave": WaveSettings,
            "imaging": ConditionRanges,
        }
        if part not in kinds:  # a range
            return [name for names in _RANGES.values() for name in names]
        of = kinds[part]
    names = [f.name for f in fields(of)]
    return [*names, "defocus"] if of is ConditionRanges else names


def _meant(given: Any) -> str | None:
    """Which kind of range a value was meant to be."""
    if not isinstance(given, Mapping):
        return "float"
    known = {kind: len(set(names) & set(given)) for kind, names in _RANGES.items()}
    best = max(known, key=lambda kind: known[kind])
    return best if known[best] else None


def _at(values: Any, loc: list[Any]) -> Any:
    for part in loc:
        values = values[part]
    return values


def _take_back(wave: Any, imaging: dict[str, Any]) -> None:
    """Images do not repeat what is at fault in the wave."""
    for name, default in _shared_defaults().items():
        if isinstance(wave, dict) and name in wave and imaging.get(name) == wave[name]:
            imaging[name] = default


_STAND_IN = 1000
"""Scenes, where a study says none that can be used, so that the rest is looked at."""


def _remove(errors: list[Any], values: dict[str, Any]) -> bool:
    """Take what is at fault out of the values; whether anything was."""
    removed = False
    for error in errors:
        loc = [p for p in error["loc"] if isinstance(p, str)][:2]
        if error["type"] == "missing" and len(loc) == 1:
            values[loc[0]] = _STAND_IN
            removed = True
            continue
        table: Any = values
        for part in loc[:-1]:
            table = table.get(part) if isinstance(table, dict) else None
        if loc and isinstance(table, dict) and loc[-1] in table:
            if loc[0] == "wave" and isinstance(values["imaging"], dict):
                _take_back(values["wave"], values["imaging"])
            del table[loc[-1]]
            removed = True
            if loc == ["scenes"]:  # at fault is not missing
                values["scenes"] = _STAND_IN
    return removed
