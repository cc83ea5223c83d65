"""What Passband, a bundle or a micrograph file is, as lines of a name and words."""

from __future__ import annotations

import json
import math
from typing import Any

import torch

from passband import __version__
from passband.cavities.domains import DOMAINS
from passband.detectors.bundle import Bundle, CalibrationRecord, default_bundle
from passband.errors import BundleError, ParameterError
from passband.estimate.records import from_record
from passband.micrographs.micrograph import Micrograph
from passband.micrographs.readers import SUFFIXES, read_micrograph
from passband.optics.conditions import ImagingConditions
from passband.optics.resolution import first_zero, information_limit, scherzer_defocus, transfer_profile
from passband.optics.thon import ThonFit, fit_thon_rings
from passband.particles.model import ParticleModel
from passband.units import KEV, NM, electron_wavelength

Lines = list[tuple[str, str]]
"""The name of each line, and its words."""


def about_passband() -> Lines:
    """Version, readable formats, simulated domains, and the bundle that comes with the package."""
    lines = [("Passband", __version__), ("reads", " ".join(SUFFIXES))]
    lines += [(f"domain {name}", domain.about) for name, domain in DOMAINS.items()]
    try:
        return lines + about_bundle(default_bundle())
    except BundleError as e:
        return [*lines, ("bundle", f"none comes with this installation ({e})")]


def about_bundle(bundle: Bundle) -> Lines:
    """A bundle's detector, conditions of training, and calibration with its coverage.

    Parameters
    ----------
    bundle
        From a file or not.

    Raises
    ------
    CalibrationError
        If its calibration cannot be used.
    """
    count = sum(w.numel() for w in bundle.weights.values())
    lines = [
        ("bundle", bundle.name),
        ("digest", bundle.digest or "none: not read from a file"),
        ("detector", f"Mask R-CNN, {bundle.detector.backbone}, {count / 1e6:.1f} million weights"),
        ("score threshold", f"{bundle.score_threshold:g}"),
    ]
    for name, value in bundle.training.items():
        if name == "pixel_size":
            lines.append(("pixel size", f"{value[0] / NM:.3g} to {value[1] / NM:.3g} nm in training"))
        elif name == "domains":
            lines.append(("trained on", ", ".join(str(d) for d in value)))
        elif isinstance(value, (str, int, float)):
            lines.append((name.replace("_", " "), f"{value}"))
    return lines + _about_calibration(bundle.calibration)


def about_particle_model(model: ParticleModel) -> Lines:
    """A classifier of particles: classes, what it learnt from, how it did on crops held out.

    Parameters
    ----------
    model
        From a file or not.

    Raises
    ------
    CalibrationError
        If its calibration cannot be used.
    """
    about = model.training
    parts = [] if model.classifier is None else ["invariant classifier"]
    if model.generator is not None:
        parts.append(f"autoencoder with {', '.join(model.generator.settings.invariances) or 'no invariance'}")
    held_out = about.get("held_out_accuracy")
    labels = zip(model.classes, about.get("labels", ()), strict=False)
    lines = [
        ("bundle", model.name),
        ("digest", model.digest or "none: not read from a file"),
        ("classifies", f"particles in crops of {model.size} x {model.size} pixels"),
        ("labelled crops", ", ".join(f"{name} {n}" for name, n in labels)),
        ("unlabelled crops", str(about.get("unlabelled", "unknown"))),
        ("parts", " and ".join(parts)),
        ("accuracy held out", "unknown: too few labels" if held_out is None else f"{held_out:.3f}"),
    ]
    return lines + _about_calibration(model.calibration, particles=True)


def _about_calibration(record: CalibrationRecord | None, *, particles: bool = False) -> Lines:
    of, command = ("batches of crops", "particles fit") if particles else ("labelled images", "calibrate")
    if record is None:
        return [("calibration", f"none: scores cannot be estimated; see `passband {command} --help`")]
    calibration = from_record(record)
    rows = sum(calibration.domains.values())
    widths = ", ".join(f"{name} {reach.mean_width:.2f}" for name, reach in calibration.reach.items())
    matching = [] if particles else [("matching", str(calibration.matching))]  # a class is right or wrong
    return [
        ("calibration", f"{rows} {of} of {len(calibration.domains)} domains"),
        *matching,
        ("coverage", calibration.statement),
        ("interval width", f"{widths} on average"),
    ]


def about_micrograph(path: str) -> Lines:
    """A micrograph file's size and calibration, and where each number came from.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    ReadError
        If it gives no micrograph.
    """
    m = read_micrograph(path)
    height, width = m.shape
    shown = {
        "pixel_size": None if m.pixel_size is None else f"{m.pixel_size / NM:.6g} nm",
        "energy": None if m.energy is None else f"{m.energy / KEV:.6g} keV",
        "defocus": None if m.defocus is None else f"{m.defocus / NM:.6g} nm (positive is underfocus)",
    }
    lines = [("micrograph", m.name), ("size", f"{width} x {height} pixels (width x height)")]
    for name, words in shown.items():
        source = m.sources.get(name)
        said = "unknown" if words is None else words + (f", from {source}" if source else "")
        lines.append((name.replace("_", " "), said))
    if m.pixel_size is not None:
        field = f"{width * m.pixel_size / NM:.4g} x {height * m.pixel_size / NM:.4g} nm"
        lines.append(("field of view", field))
    lines.append(("grey levels", f"{m.pixels.min():g} to {m.pixels.max():g}, mean {m.pixels.mean():g}"))
    return lines + [("note", note) for note in m.notes]


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
    facts = _lens(conditions)
    k = torch.linspace(0, 1.25 * facts["information_limit"], 501, dtype=torch.float64)
    values = transfer_profile(conditions, k)
    return json.dumps({**facts, "k": k.tolist(), "contrast_transfer": values.tolist()}, indent=1) + "\n"


def _lens(conditions: ImagingConditions) -> dict[str, Any]:
    return {
        "wavelength": round(electron_wavelength(conditions.energy), 7),
        "scherzer_defocus": scherzer_defocus(energy=conditions.energy, C30=conditions.C30),
        "first_zero": first_zero(conditions),
        "information_limit": information_limit(conditions),
    }


def focus_of(
    micrograph: Micrograph, *, energy: float | None = None, C30: float = 0.0, most_defocus: float = 3500.0
) -> ThonFit:
    """Defocus and astigmatism of a micrograph, with what its file says of pixel size and energy.

    Parameters
    ----------
    micrograph
        With a pixel size.
    energy
        eV, in place of the file's.
    C30, most_defocus
        As in `fit_thon_rings`, Å.

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
    return fit_thon_rings(
        micrograph.pixels,
        pixel_size=known["pixel size"],
        energy=known["energy"],
        C30=C30,
        most_defocus=most_defocus,
    )


def about_focus(fit: ThonFit) -> Lines:
    """A fit of Thon rings, in words.

    Parameters
    ----------
    fit
        Believed or not.
    """
    side = {1: "underfocus", -1: "overfocus", 0: "side not told"}[fit.sign]
    return [
        ("believed", f"{'yes' if fit.believed else 'no'}: {fit.reason}"),
        ("defocus", f"{fit.defocus:.0f} ± {fit.defocus_error:.0f} Å, {side}"),
        ("astigmatism", f"{fit.C12:.0f} ± {fit.C12_error:.0f} Å at {math.degrees(fit.phi12):.0f}°"),
        ("information limit", f"{fit.information_limit:.2f} 1/Å, {fit.rings:.1f} rings below it"),
    ]


def focus_to_json(fit: ThonFit) -> str:
    """A fit of Thon rings as one JSON object; lengths in Å, angles in rad, infinity as null.

    Parameters
    ----------
    fit
        Believed or not.

    Returns
    -------
    str
        All values of `ThonFit`.
    """
    values = {k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in vars(fit).items()}
    return json.dumps(values, indent=1, default=float) + "\n"
