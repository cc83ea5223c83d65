"""The shift between two sets of images: what each transfers, how much of it they share, in numbers and words.

A set is told by a file of conditions, a dataset, a bundle that says what it was trained on, or a micrograph,
whose Thon rings tell its focus.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from passband.errors import ParameterError
from passband.optics.conditions import (
    ConditionRanges,
    Grid,
    ImagingConditions,
    Normal,
    Range,
    Uniform,
    draw_conditions,
)
from passband.optics.shift import Seen, View, coverage, epsilon, information, look, metrics
from passband.store.toml import read_toml
from passband.types import Lines
from passband.units import KEV, MM, NM
from passband.words import listed, meant, number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAMPLE = 96
"""Conditions that ranges are taken as."""
CONDITION_NAMES: dict[str, tuple[str, float]] = {
    "defocus_nm": ("C10", -NM),
    "cs_mm": ("C30", MM),
    "focal_spread": ("focal_spread", 1.0),
    "energy_kev": ("energy", KEV),
    "dose": ("dose", 1.0),
    "astigmatism_nm": ("C12", NM),
    "angular_spread_mrad": ("angular_spread", 1e-3),
    "pixel_size_nm": ("pixel_size", NM),
    "mtf_half": ("mtf_half", 1.0),
}
"""Of a condition file's names, what `ConditionRanges` calls them and their unit there."""


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """A set of images by the conditions that they were taken under.

    Parameters
    ----------
    name
        For people.
    ranges
        What their conditions are.
    assumed
        What was not said and is taken for granted, in words.
    """

    name: str
    ranges: ConditionRanges
    assumed: tuple[str, ...] = ()

    @property
    def conditions(self) -> list[ImagingConditions]:
        """A sample of them; one where there is no range."""
        varied = any(not isinstance(getattr(self.ranges, f.name), int | float) for f in fields(self.ranges))
        return draw_conditions(self.ranges, SAMPLE if varied else 1, seed=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shift:
    """How far a test set is from a training set.

    Parameters
    ----------
    train, test
        The sets.
    values
        The metrics by name: ``epsilon_train``, ``epsilon_test``, ``sigma`` and its variants,
        ``sigma_coverage``, ``bits_train`` and ``bits_test`` (per Å²), ``defocus_distance_nm``.
    seen
        What each transfers.
    """

    train: ImageSet
    test: ImageSet
    values: Mapping[str, float]
    seen: tuple[Seen, Seen]


def shift_between(train: ImageSet, test: ImageSet, *, view: View | None = None) -> Shift:
    """Measure the shift from a training set to a test set.

    Parameters
    ----------
    train, test
        The sets.
    view
        Band, weight and depth of epsilon, sigma, coverage and bits; the default `View` if not given.

    Raises
    ------
    ParameterError
        If a condition is one that no instrument has.

    Examples
    --------
    >>> near, far = (
    ...     ImageSet(name=n, ranges=ConditionRanges(C10=c)) for n, c in (("near", -100.0), ("far", -600.0))
    ... )
    >>> shift = shift_between(near, far)
    >>> shift.values["defocus_distance_nm"], 0 < shift.values["sigma"] < 1
    (50.0, True)
    """
    sets = train.conditions, test.conditions
    one, other = (look(conditions, view=view) for conditions in sets)
    view, a, b, found = one.view, one.flat, other.flat, metrics(one, other)
    mean = [-_middle(s.ranges.C10) for s in (train, test)]
    doses = [sum(c.dose for c in conditions) / len(conditions) for conditions in sets]
    values = {
        "epsilon_train": float(epsilon(a, view)),
        "epsilon_test": float(epsilon(b, view)),
        "sigma": found["sigma"],
        "sigma_coverage": found["coverage"],
        "coverage_of_training": float(coverage(b, a, view)),
        **{n: found[n] for n in ("sigma_area", "sigma_depth", "sigma_power", "sigma_signed")},
        "bits_train": float(information(a, view, dose=doses[0])),
        "bits_test": float(information(b, view, dose=doses[1])),
        "defocus_distance_nm": abs(mean[0] - mean[1]) / NM,
    }
    return Shift(train=train, test=test, values=values, seen=(one, other))


def _middle(of: Range) -> float:
    """The mean of what a range draws."""
    if isinstance(of, Uniform):
        return (of.low + of.high) / 2
    if isinstance(of, Normal):
        return of.mean
    return sum(of.values) / len(of.values) if isinstance(of, Grid) else of


def read_set(
    path: str | Path,
    *,
    energy: float | None = None,
    C30: float | None = None,
    pixel_size: float | None = None,
) -> ImageSet:
    """Read what a set of images was taken under.

    Parameters
    ----------
    path
        A TOML file with a table ``[conditions]``, a dataset's folder, a bundle's file or name, or a
        micrograph.
    energy, C30, pixel_size
        eV, Å and Å, of a micrograph whose file does not say.

    Raises
    ------
    ParameterError
        If it says no conditions, or naming every fault of them.
    PassbandError
        If it cannot be read.
    """
    file = Path(path)
    if file.suffix.lower() == ".toml":
        return _of_file(file)
    if file.is_dir():
        from passband.hrtem.dataset.dataset import open_dataset

        return ImageSet(name=file.name, ranges=open_dataset(file).study.imaging)
    from passband.detectors.bundle import bundle_file, read_bundle

    if bundle_file(path) != file or file.suffix == ".safetensors":
        return _of_bundle(str(path), read_bundle(bundle_file(path)).training)
    return _of_micrograph(file, energy, C30, pixel_size)


def _of_file(file: Path) -> ImageSet:
    example = "`[conditions]` and `defocus_nm = [-20, 60]`"
    tree = read_toml(file, wanted="conditions", example=example)
    table = tree.get("conditions")
    if not isinstance(table, dict) or not table:
        raise ParameterError(f"{file} has no table [conditions]; with {example} it would say some")
    return ImageSet(name=file.stem, **_conditions(table, source=str(file)))


def _of_bundle(name: str, training: Mapping[str, Any]) -> ImageSet:
    said = training.get("conditions")
    if not isinstance(said, dict) or not said:
        raise ParameterError(
            f"the bundle {name} does not say under what conditions its training images were taken; write "
            "them into a TOML file with a table [conditions] and give that"
        )
    if not set(said) <= set(CONDITION_NAMES):
        ranges = {f.name: _stored(said[f.name]) for f in fields(ConditionRanges) if f.name in said}
        return ImageSet(name=name, ranges=ConditionRanges(**ranges))
    more = {}
    if training.get("energies"):
        ends = [e / KEV for e in training["energies"]]
        more["energy_kev"] = [min(ends), max(ends)]
    return ImageSet(name=name, **_conditions({**more, **said}, source=f"bundle {name}"))


def _of_micrograph(file: Path, energy: float | None, C30: float | None, pixel_size: float | None) -> ImageSet:
    from passband.micrographs.readers import read_micrograph
    from passband.optics.about import focus_of

    micrograph = read_micrograph(str(file), pixel_size=pixel_size)
    try:
        fit = focus_of(micrograph, energy=energy, C30=C30)
    except ParameterError as e:
        said = str(e)
        raise ParameterError(said if str(file) in said else f"{file}: {said}") from e
    if not fit.believed:
        raise ParameterError(
            f"{file}: its focus cannot be told by its Thon rings: {fit.reason}; write its conditions into a "
            "TOML file with a table [conditions] and give that"
        )
    assumed = ["no focal spread beyond 10 Å, an even MTF, 400 e/Å²"]
    if not fit.sign:
        assumed.append("underfocus, as the rings do not tell the side")
    ranges = ConditionRanges(
        energy=energy or micrograph.energy or 0.0,
        C10=-fit.defocus * (fit.sign or 1),
        C12=fit.C12,
        phi12=fit.phi12,
        C30=fit.C30,
        pixel_size=micrograph.pixel_size or 0.0,
    )
    return ImageSet(name=file.name, ranges=ranges, assumed=tuple(assumed))


def _conditions(table: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Ranges, and what they leave to be assumed."""
    given: dict[str, Any] = {}
    faults = []
    for name, value in table.items():
        if name not in CONDITION_NAMES:
            faults.append(f"conditions.{name} is not known; {meant(name, list(CONDITION_NAMES))}")
            continue
        ends = value if isinstance(value, list) else [value, value]
        if len(ends) != 2 or not all(isinstance(e, int | float) and not isinstance(e, bool) for e in ends):
            faults.append(f"conditions.{name} must be a number or [lowest, highest], got {value}")
            continue
        to, unit = CONDITION_NAMES[name]
        low, high = sorted(e * unit for e in ends)
        given[to] = low if low == high else Uniform(low=low, high=high)
        if ends[0] > ends[1]:
            faults.append(f"conditions.{name} must be [lowest, highest], got {value}")
    if not faults:
        try:
            ranges = ConditionRanges(**given)
            draw_conditions(ranges, SAMPLE, seed=0)
        except ParameterError as e:
            faults.append(str(e))
    if faults:
        raise ParameterError(listed(source, faults, "the conditions"))
    assumed = []
    for name in ("defocus_nm", "cs_mm", "focal_spread", "energy_kev"):
        to, unit = CONDITION_NAMES[name]
        if to not in given:
            assumed.append(f"{name} {number_text(abs(getattr(ConditionRanges, to) / unit))}")
    return {"ranges": ranges, "assumed": tuple(assumed)}


_STORED: tuple[Callable[[dict[str, Any]], Range], ...] = (
    lambda v: Uniform(**v),
    lambda v: Normal(**v),
    lambda v: Grid(values=tuple(v["values"])),
)


def _stored(value: Any) -> Any:
    """A range as a manifest holds it."""
    if value is None:
        return float("inf")
    if not isinstance(value, dict):
        return value
    for make in _STORED:
        try:
            return make(value)
        except (TypeError, KeyError):
            continue
    raise ParameterError(f"{value} is no range of conditions")


def shift_to_json(shift: Shift) -> str:
    """The metrics as one JSON object, with the names of the sets and what was assumed.

    Bits at an infinite dose are null.
    """
    told = shift.values.items()
    values = {name: round(value, 9) if math.isfinite(value) else None for name, value in told}
    names = {"train": shift.train.name, "test": shift.test.name}
    assumed = {"train": list(shift.train.assumed), "test": list(shift.test.assumed)}
    return json.dumps({**names, **values, "assumed": assumed, "in_words": shift_sentence(shift)}) + "\n"


def shift_sentence(shift: Shift) -> str:
    """The shift in one sentence.

    Examples
    --------
    >>> same = ImageSet(name="a", ranges=ConditionRanges(C10=-100.0))
    >>> other = ImageSet(name="b", ranges=same.ranges)
    >>> shift_sentence(shift_between(same, other))
    'b transfers as a does (sigma 1.00): of what b transfers 100 % is in a; mean defocus is the same'
    """
    v, a, b = shift.values, shift.train.name, shift.test.name
    how = next(words for least, words in _LIKENESS if v["sigma"] >= least)
    apart = v["defocus_distance_nm"]
    focus = f"mean defocus is {number_text(apart)} nm apart" if apart > 0 else "mean defocus is the same"
    return (
        f"{b} transfers {how.format(a)} (sigma {v['sigma']:.2f}): of what {b} transfers "
        f"{100 * v['sigma_coverage']:.0f} % is in {a}; {focus}"
    )


_LIKENESS = (
    (0.97, "as {} does"),
    (0.85, "much as {} does"),
    (0.7, "in part as {} does"),
    (-1.0, "otherwise than {}"),
)


def about_shift(shift: Shift) -> Lines:
    """The shift in words, for people."""
    v = shift.values
    lines = [
        ("in a word", shift_sentence(shift)),
        (
            "epsilon",
            f"{v['epsilon_train']:.3f} and {v['epsilon_test']:.3f}, the share of contrast that arrives",
        ),
        (
            "sigma",
            f"{v['sigma']:.3f}; weighted by area {v['sigma_area']:.3f}, signed {v['sigma_signed']:.3f}",
        ),
        ("coverage", f"{v['sigma_coverage']:.3f}; the other way {v['coverage_of_training']:.3f}"),
        ("information", f"{v['bits_train']:.3g} and {v['bits_test']:.3g} bits/Å²"),
        ("defocus apart", f"{number_text(v['defocus_distance_nm'])} nm"),
    ]
    for side in (shift.train, shift.test):
        if side.assumed:
            lines.append(("assumed", f"of {side.name}: {', '.join(side.assumed)}"))
    return lines


def draw_shift(shift: Shift, *, axes: Axes | None = None) -> Figure:
    """Both |T| over frequency, and what they share.

    Parameters
    ----------
    shift
        To draw.
    axes
        To draw on; a new figure's if not given.
    """
    import numpy as np

    from passband.drawing.saving import ACCENT, place

    figure, axes = place(axes, (7.0, 3.8))
    k = shift.seen[0].view.frequencies.numpy()
    one, other = (seen.flat.magnitude.numpy() for seen in shift.seen)
    axes.fill_between(k, 0, np.minimum(one, other), color=ACCENT, alpha=0.15, lw=0, label="shared")
    axes.plot(k, one, color=ACCENT, lw=1.5, label=shift.train.name)
    axes.plot(k, other, color="#c26a1b", lw=1.5, ls="--", label=shift.test.name)
    axes.set_xlabel("spatial frequency, 1/Å")
    axes.set_ylabel("mean |T|")
    axes.set_ylim(0, 1)
    axes.set_xlim(k[0], k[-1])
    axes.set_title(
        f"sigma {shift.values['sigma']:.2f}, coverage {shift.values['sigma_coverage']:.2f}", size=10
    )
    axes.legend(frameon=False, fontsize=8)
    return figure
