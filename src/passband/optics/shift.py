"""How much a condition transfers, and how alike two conditions transfer: the information-transfer metrics.

The contrast that a weak phase gets is its transfer T: sin(chi) times envelopes and what the camera leaves of
it. What a set of images transfers follows from the conditions that they were taken under: on each ring of
frequency the means of |T|, T² and T over the conditions, over directions and over depths within a particle.

Reconstruction. A paper (arXiv 2512.09067) compares data by two metrics of the contrast transfer function,
epsilon of one condition and sigma of a pair; we know their purpose, not their formulas. These are ours, in
variants, and `studies/map_tables.py` says which of them order the loss of networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from passband.errors import ParameterError
from passband.optics.conditions import ImagingConditions
from passband.optics.transfer import Lens, contrast_transfer, lens_of

Weight = Literal["flat", "area"]
Kind = Literal["magnitude", "power", "signed"]


@dataclass(frozen=True, kw_only=True)
class View:
    """What of the transfer counts.

    Parameters
    ----------
    band
        Lowest and highest frequency, 1/Å. Beyond 0.8 images of particles of some nm are no longer linear.
    weight
        "flat": every ring counts alike; "area": by its radius, as rings hold so many frequencies.
    depth
        Thickness of the particle, Å: its layers are each at their own defocus, and the mean over them counts.
    rings, directions, layers
        How finely it is summed.

    Raises
    ------
    ParameterError
        Naming every value beyond its limits.
    """

    band: tuple[float, float] = (0.05, 0.8)
    weight: Weight = "flat"
    depth: float = 0.0
    rings: int = 192
    directions: int = 8
    layers: int = 5

    def __post_init__(self) -> None:
        low, high = self.band
        faults = []
        if not 0 <= low < high < math.inf:
            faults.append(f"band must be [lowest, highest] of 0 or more, in 1/Å, got {[low, high]}")
        if not 0 <= self.depth < math.inf:
            faults.append(f"depth must be 0 Å or more, got {self.depth}")
        if min(self.rings, self.directions, self.layers) < 1:
            faults.append("rings, directions and layers must be 1 or more")
        if faults:
            raise ParameterError("the view of a transfer: " + "; ".join(faults))

    @property
    def frequencies(self) -> Tensor:
        """Of the rings, 1/Å, float64 (rings,)."""
        low, high = self.band
        return low + (high - low) * (torch.arange(self.rings, dtype=torch.float64) + 0.5) / self.rings

    @property
    def weights(self) -> Tensor:
        """Of the rings, their sum 1, float64 (rings,)."""
        raw = self.frequencies if self.weight == "area" else torch.ones(self.rings, dtype=torch.float64)
        return raw / raw.sum()


@dataclass(frozen=True, kw_only=True, eq=False)
class Transfer:
    """What a set of images transfers, over the rings of a view: float64 (rings,).

    Parameters
    ----------
    magnitude, power, signed
        Means of |T|, T² and T; T is 1 where all contrast of a weak phase arrives.
    """

    magnitude: Tensor
    power: Tensor
    signed: Tensor


def transfer(conditions: Sequence[ImagingConditions], view: View | None = None) -> Transfer:
    """What images of these conditions transfer together.

    Parameters
    ----------
    conditions
        One for each image, or a sample of them. The camera's MTF counts, and nothing is told beyond half a
        cycle per pixel; noise does not count.
    view
        What counts; the default `View` if not given.

    Raises
    ------
    ParameterError
        If there is no condition.

    Examples
    --------
    >>> in_focus = transfer([ImagingConditions(energy=300e3, C30=0.0, pixel_size=0.2)])
    >>> in_focus.magnitude.max().item()
    0.0
    """
    if not conditions:
        raise ParameterError("no imaging conditions were given; at least one is needed")
    pixels = torch.tensor([c.pixel_size for c in conditions], dtype=torch.float64)[:, None, None]
    half = torch.tensor([c.mtf_half for c in conditions], dtype=torch.float64)[:, None, None]
    return transfer_of(lens_of(conditions, dtype=torch.float64), view or View(), mtf=(pixels, half))


def transfer_of(lens: Lens, view: View, *, mtf: tuple[Tensor, Tensor] | None = None) -> Transfer:
    """What images of these lenses transfer together; differentiable.

    Parameters
    ----------
    lens
        Of tensors (b, 1, 1), whose gradient may be asked for.
    view
        What counts.
    mtf
        Pixel sizes, Å, and the frequencies in cycles per pixel where the camera passes a half, (b, 1, 1).

    Examples
    --------
    >>> lens = lens_of([ImagingConditions(energy=300e3, C10=-100.0, C30=0.0)], dtype=torch.float64)
    >>> lens = replace(lens, C10=lens.C10.requires_grad_())
    >>> epsilon(transfer_of(lens, View()), View()).backward()
    >>> lens.C10.grad.item() != 0
    True
    """
    k = view.frequencies.to(lens.C10)
    angle = math.pi * (torch.arange(view.directions, dtype=k.dtype) + 0.5) / view.directions
    ky, kx = k[:, None] * torch.sin(angle), k[:, None] * torch.cos(angle)
    layers = view.layers if view.depth else 1
    heights = view.depth * ((torch.arange(layers) + 0.5) / layers - 0.5)
    passed: Tensor | float = 1.0
    if mtf is not None:
        pixel, half = mtf
        cycles = k[:, None] * pixel
        passed = torch.where(cycles <= 0.5, 1 / (1 + (cycles / half) ** 2), 0.0)
    found = torch.stack([contrast_transfer(ky, kx, replace(lens, C10=lens.C10 + z)) / 2 for z in heights])
    found = found * passed  # (layers, b, rings, directions)
    over = (0, 1, 3)
    return Transfer(
        magnitude=found.abs().mean(over), power=found.square().mean(over), signed=found.mean(over)
    )


def epsilon(of: Transfer, view: View) -> Tensor:
    """How much a set of images transfers: the mean of |T| over the view, 0 to 1.

    Examples
    --------
    >>> view = View()
    >>> sets = [[ImagingConditions(C10=-200.0, focal_spread=d, pixel_size=0.2)] for d in (5, 50)]
    >>> sharp, blurred = (epsilon(transfer(s, view), view) for s in sets)
    >>> bool(sharp > blurred)
    True
    """
    return (of.magnitude * view.weights.to(of.magnitude)).sum()


def sigma(one: Transfer, other: Transfer, view: View, kind: Kind = "magnitude") -> Tensor:
    """How alike two sets of images transfer: the cosine between them, 1 for equal ones.

    Parameters
    ----------
    one, other
        Of one view.
    view
        What counts.
    kind
        "magnitude" of |T|, "power" of T², both 0 to 1; "signed" of T, -1 to 1.

    Returns
    -------
    Tensor
        A number; 0 where one of them transfers nothing, 1 where neither does.

    Examples
    --------
    >>> view = View()
    >>> under, over = (transfer([ImagingConditions(C10=c, C30=0.0)], view) for c in (-100.0, 100.0))
    >>> round(sigma(under, over, view).item(), 9), round(sigma(under, over, view, "signed").item(), 9)
    (1.0, -1.0)
    """
    a, b = (_to_one(getattr(t, kind)) for t in (one, other))
    w = view.weights.to(a)
    own, others = (a * a * w).sum(), (b * b * w).sum()
    norm = own * others
    alike = (a * b * w).sum() / torch.where(norm > 0, norm, 1.0).sqrt()
    return torch.where(norm > 0, alike, torch.where(own + others > 0, 0.0, 1.0).to(alike))


def _to_one(profile: Tensor) -> Tensor:
    """With a largest value of 1, so that the squares of a faint one do not vanish; nothing stays nothing."""
    largest = profile.abs().max()
    return profile / torch.where(largest > 0, largest, 1.0)


def coverage(train: Transfer, test: Transfer, view: View) -> Tensor:
    """How much of what the second transfers the first transfers too, 0 to 1; not symmetric.

    Examples
    --------
    >>> view = View()
    >>> sets = [[ImagingConditions(C10=-200.0, focal_spread=d, pixel_size=0.2)] for d in (5, 50)]
    >>> sharp, blurred = (transfer(s, view) for s in sets)
    >>> bool(coverage(sharp, blurred, view) > coverage(blurred, sharp, view))
    True
    """
    w = view.weights.to(test.magnitude)
    there = (test.magnitude * w).sum()
    shared = (torch.minimum(train.magnitude, test.magnitude) * w).sum()
    return torch.where(there > 0, shared / torch.where(there > 0, there, 1.0), 1.0)


def information(
    of: Transfer, view: View, *, dose: float, strength: float = 0.03, width: float = 0.5
) -> Tensor:
    """Bits for each Å² that a set of images tells of a weak phase: the capacity of a channel with shot noise.

    Parameters
    ----------
    of, view
        The transfer; only the band of the view counts, whatever its weight.
    dose
        Electrons on the specimen, e/Å².
    strength, width
        Power of the specimen's phase at frequency zero, rad² Å², and the frequency, 1/Å, where it has fallen
        to 1/e: about those of 4 nm of CdSe.

    Returns
    -------
    Tensor
        1/2 of the integral of log2(1 + 4 dose T² S) over frequencies. Contrast is twice T times the phase.

    References
    ----------
    C. E. Shannon, Proc. IRE 37 (1949) 10, doi:10.1109/JRPROC.1949.232969.

    Examples
    --------
    >>> view = View()
    >>> of = transfer([ImagingConditions(energy=300e3, C10=-200.0, C30=0.0)], view)
    >>> bool(information(of, view, dose=400.0) > information(of, view, dose=40.0))
    True
    """
    k = view.frequencies.to(of.power)
    step = (view.band[1] - view.band[0]) / view.rings
    signal = strength * torch.exp(-((k / width) ** 2))
    return (0.5 * torch.log2(1 + 4 * dose * of.power * signal) * 2 * math.pi * k * step).sum()


METRICS = ("sigma", "sigma_area", "sigma_depth", "sigma_power", "sigma_signed", "coverage")
"""What `metrics` tells of a pair."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What a set of images transfers, of thin matter and of particles: calculated once for all pairs.

    Parameters
    ----------
    view
        What counts.
    flat, deep
        What is transferred over it, of a thin film and of particles of some depth.
    """

    view: View
    flat: Transfer
    deep: Transfer


def look(conditions: Sequence[ImagingConditions], *, view: View | None = None, depth: float = 40.0) -> Seen:
    """What images of these conditions transfer, for `metrics` of pairs.

    Parameters
    ----------
    conditions
        As in `transfer`.
    view
        What counts; the default `View` if not given.
    depth
        Of the particles, Å, for ``sigma_depth``.

    Examples
    --------
    >>> look([ImagingConditions(C10=-200.0)]).deep.power.shape
    torch.Size([192])
    """
    flat = view or View()
    deep = transfer(conditions, replace(flat, depth=depth))
    return Seen(view=flat, flat=transfer(conditions, flat), deep=deep)


def metrics(train: Seen, test: Seen) -> Mapping[str, float]:
    """Every variant of how alike two sets of images transfer.

    Parameters
    ----------
    train, test
        Of one view.

    Examples
    --------
    >>> same = look([ImagingConditions(C10=-200.0)])
    >>> {round(v, 9) for v in metrics(same, same).values()}
    {1.0}
    """
    view, a, b = train.view, train.flat, test.flat
    found = {
        "sigma": sigma(a, b, view),
        "sigma_area": sigma(a, b, replace(view, weight="area")),
        "sigma_depth": sigma(train.deep, test.deep, view),
        "sigma_power": sigma(a, b, view, "power"),
        "sigma_signed": sigma(a, b, view, "signed"),
        "coverage": coverage(a, b, view),
    }
    return {name: float(value) for name, value in found.items()}
