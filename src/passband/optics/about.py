"""What a lens passes and what a fit of Thon rings found, in words and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from passband.errors import ParameterError
from passband.micrographs.micrograph import Micrograph
from passband.optics.conditions import ImagingConditions
from passband.optics.ring_doubts import LEAST_RINGS
from passband.optics.thon import ThonFit, fit_thon_rings
from passband.types import Lines
from passband.units import KEV, MM, NM, electron_wavelength


def about_lens(conditions: ImagingConditions) -> Lines:
    """What a lens passes, in words.

    Parameters
    ----------
    conditions
        The lens and illumination.

    Examples
    --------
    >>> dict(about_lens(ImagingConditions(energy=300e3, C10=-583.0)))["Scherzer defocus"]
    '583 Å'
    """
    facts = _lens(conditions)
    zero, limit = facts["first_zero"], facts["information_limit"]
    none = "none before the information limit"
    return [
        ("wavelength", f"{facts['wavelength']:.5f} Å"),
        ("Scherzer defocus", f"{facts['scherzer_defocus']:.0f} Å"),
        ("first zero", none if zero is None else f"{zero:.4f} 1/Å ({1 / zero:.2f} Å)"),
        ("information limit", f"{limit:.4f} 1/Å ({1 / limit:.2f} Å), where envelopes leave exp(-2)"),
    ]


def lens_to_json(conditions: ImagingConditions) -> str:
    """What a lens passes, and its contrast transfer along x, as one JSON object.

    Parameters
    ----------
    conditions
        The lens and illumination.

    Returns
    -------
    str
        Frequencies ``k`` in 1/Å and ``contrast_transfer``, 2 sin(chi) with envelopes, among others.

    Examples
    --------
    >>> json.loads(lens_to_json(ImagingConditions(energy=300e3)))["wavelength"]
    0.0196875
    """
    import torch  # here, as a focus is told without it

    from passband.optics.resolution import transfer_profile

    facts = _lens(conditions)
    k = torch.linspace(0, 1.25 * facts["information_limit"], 501, dtype=torch.float64)
    values = transfer_profile(conditions, k)
    return json.dumps({**facts, "k": k.tolist(), "contrast_transfer": values.tolist()}, indent=1) + "\n"


def _lens(conditions: ImagingConditions) -> dict[str, Any]:
    from passband.optics.resolution import first_zero, information_limit, scherzer_defocus

    return {
        "wavelength": round(electron_wavelength(conditions.energy), 7),
        "scherzer_defocus": scherzer_defocus(energy=conditions.energy, C30=conditions.C30),
        "first_zero": first_zero(conditions),
        "information_limit": information_limit(conditions),
    }


def focus_of(micrograph: Micrograph, *, energy: float | None = None, **asked: Any) -> ThonFit:
    """Defocus and astigmatism of a micrograph, with what its file says of pixel size and energy.

    Parameters
    ----------
    micrograph
        With a pixel size.
    energy
        eV, in place of the file's.
    asked
        Any of C30, most_defocus, most_astigmatism of `fit_thon_rings`, Å.

    Returns
    -------
    ThonFit
        With its own word on whether to believe it.

    Raises
    ------
    ParameterError
        If pixel size or energy is unknown, or the image cannot be used.
    """
    known = {"pixel size": micrograph.pixel_size, "energy": energy or micrograph.energy}
    lacking = [name for name, value in known.items() if value is None]
    if lacking:
        raise ParameterError(f"{micrograph.name}: says nothing of its {' and '.join(lacking)}; give it")
    assert known["pixel size"] is not None and known["energy"] is not None
    return fit_thon_rings(micrograph.pixels, pixel_size=known["pixel size"], energy=known["energy"], **asked)


def about_focus(fit: ThonFit) -> Lines:
    """A fit of Thon rings, in words; one that is not believed gives no number as its answer."""
    if not fit.believed:
        lines = [("believed", f"no: {fit.reason}"), ("defocus", "not told"), ("astigmatism", "not told")]
        if fit.rings >= LEAST_RINGS:
            lines.append(("not to be used", f"{fit.defocus:.0f} Å, {fit.rings:.1f} rings in view"))
        return lines
    side = {1: "underfocus", -1: "overfocus", 0: "side not told"}[fit.sign]
    return [
        ("believed", f"yes: {fit.reason}"),
        ("defocus", f"{fit.defocus:.0f} ± {fit.defocus_error:.0f} Å, {side}"),
        ("astigmatism", f"{fit.C12:.0f} ± {fit.C12_error:.0f} Å at {math.degrees(fit.phi12):.0f}°"),
        ("Cs", f"{fit.C30 / MM:.3g}{_error(fit.C30_error / MM)} mm"),
        ("information limit", f"{fit.information_limit:.2f} 1/Å, {fit.rings:.1f} rings below it"),
    ]


def _error(error: float) -> str:
    return f" ± {error:.2g}" if error else ""


def focus_to_json(fit: ThonFit) -> str:
    """A fit of Thon rings as one JSON object; lengths in Å, angles in rad, infinity as null.

    Returns
    -------
    str
        All values of `ThonFit`, and "astigmatism", which is C12. "defocus" is negative where overfocus is
        told. Where under one ring is in view and the fit is not believed, what it would say of the lens is
        null.
    """
    values = {k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in vars(fit).items()}
    if fit.sign < 0:
        values["defocus"] = -fit.defocus
    if not fit.believed and not fit.rings >= LEAST_RINGS:
        values |= dict.fromkeys(_OF_THE_LENS)
    values["astigmatism"] = values["C12"]
    return json.dumps(values, indent=1, default=float) + "\n"


_OF_THE_LENS = ("defocus", "defocus_error", "C12", "C12_error", "phi12", "phi12_error")


def conditions_in_words(
    conditions: ImagingConditions, *, unlike: Sequence[ImagingConditions] | None = None
) -> str:
    """Imaging conditions in a line.

    Parameters
    ----------
    conditions
        To name.
    unlike
        Say only what is not the same in all of these.

    Returns
    -------
    str
        Such as "300 keV, defocus 50 nm, Cs 1.2 mm, focal spread 3 nm".

    Examples
    --------
    >>> conditions_in_words(ImagingConditions(energy=300e3, C10=-500.0, C30=0.0, focal_spread=30.0))
    '300 keV, defocus 50 nm, Cs 0 mm, focal spread 3 nm, convergence 0.1 mrad'
    """
    c = conditions
    words = {
        "energy": f"{c.energy / KEV:g} keV",
        "C10": f"defocus {round(c.defocus / NM, 2) + 0.0:g} nm",
        "C12": f"astigmatism {c.C12 / NM:.3g} nm",
        "C30": f"Cs {c.C30 / MM:.3g} mm",
        "focal_spread": f"focal spread {c.focal_spread / NM:.3g} nm",
        "angular_spread": f"convergence {1e3 * c.angular_spread:.3g} mrad",
        "aperture": f"aperture {1e3 * c.aperture:.3g} mrad" if math.isfinite(c.aperture) else "no aperture",
        "vibration": f"vibration {c.vibration:.2g} Å",
        "mtf_half": f"MTF half at {c.mtf_half:.2g}/pixel" if math.isfinite(c.mtf_half) else "perfect camera",
        "dose": f"{c.dose:g} e/Å²" if math.isfinite(c.dose) else "no noise",
    }
    if unlike is None:
        silent = {n: getattr(c, n) == 0 for n in ("C12", "angular_spread", "vibration")}
        silent |= {n: math.isinf(getattr(c, n)) for n in ("aperture", "mtf_half", "dose")}
        return ", ".join(w for name, w in words.items() if not silent.get(name))
    return ", ".join(w for name, w in words.items() if len({getattr(u, name) for u in unlike}) > 1)
