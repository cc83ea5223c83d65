"""Commands on waves and lenses: ctf, focus, image, multislice."""

from __future__ import annotations

import json as json_text
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passband.cli.shell import FrameOption, PermissiveOption, reading_of

if TYPE_CHECKING:
    from passband.optics.conditions import ImagingConditions

EnergyKev = Annotated[float, typer.Option(help="Electron energy.")]
Defocus = Annotated[float, typer.Option(help="Å; positive is underfocus.")]
CsMm = Annotated[float, typer.Option(help="Third-order spherical aberration.")]
C5Mm = Annotated[float, typer.Option(help="Fifth-order spherical aberration.")]
FocalSpread = Annotated[float, typer.Option(help="1/e half-width of the focus distribution, Å.")]
AngularSpread = Annotated[float, typer.Option(help="1/e half-width of the illumination angle.")]
ApertureMrad = Annotated[float | None, typer.Option(help="Objective aperture's semi-angle.")]
Astigmatism = Annotated[float, typer.Option(help="Twofold astigmatism, Å.")]
AstigmatismAngle = Annotated[float, typer.Option(help="Its azimuth from x towards y, degrees.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def ctf(
    defocus: Defocus = 0.0,
    cs_mm: CsMm = 1.2,
    energy_kev: EnergyKev = 300.0,
    focal_spread: FocalSpread = 30.0,
    angular_spread_mrad: AngularSpread = 0.0,
    c5_mm: C5Mm = 0.0,
    aperture_mrad: ApertureMrad = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it: .png, .svg or .pdf.")] = None,
    json: Json = False,
) -> None:
    """Say what a lens passes: Scherzer's focus, first zero, information limit; and draw it.

    - `passband ctf --defocus 580 --cs-mm 1.2 --plot ctf.png`

    - `passband ctf --defocus 60 --cs-mm 0 --focal-spread 10 --json`
    """
    from passband.optics.about import about_lens, lens_to_json

    conditions = _conditions(
        energy_kev=energy_kev,
        defocus=defocus,
        cs_mm=cs_mm,
        c5_mm=c5_mm,
        focal_spread=focal_spread,
        angular_spread_mrad=angular_spread_mrad,
        aperture_mrad=aperture_mrad,
    )
    if json:
        sys.stdout.write(lens_to_json(conditions))
    else:
        for name, words in about_lens(conditions):
            typer.echo(f"{name + ':':<20}{words}")
    if plot is not None:
        from passband.drawing.saving import save_figure
        from passband.hrtem.wave.figures import draw_contrast_transfer

        typer.echo(f"drawn: {save_figure(draw_contrast_transfer(conditions), plot)}", err=json)


def focus(
    micrograph: Annotated[str, typer.Argument(help="A micrograph with some amorphous film in view.")],
    energy_kev: Annotated[float | None, typer.Option(help="Electron energy; as the file says.")] = None,
    pixel_size_nm: Annotated[
        float | None, typer.Option(help="nm per pixel, in place of what the file says.")
    ] = None,
    frame: FrameOption = None,
    permissive: PermissiveOption = False,
    cs_mm: Annotated[
        float | None,
        typer.Option(help="Spherical aberration; without it the rings must tell it."),
    ] = None,
    least_cs_mm: Annotated[float, typer.Option(help="Smallest Cs sought where it is not given.")] = 0.0,
    most_cs_mm: Annotated[float, typer.Option(help="Largest Cs sought where it is not given.")] = 3.5,
    most_defocus: Annotated[float, typer.Option(help="Largest defocus to be believed, Å.")] = 20000.0,
    most_astigmatism: Annotated[
        float | None, typer.Option(help="Largest astigmatism to be believed, Å; otherwise half the defocus.")
    ] = None,
    json: Json = False,
) -> None:
    """Fit defocus and astigmatism to a micrograph's Thon rings, and say whether to believe them.

    For example `passband focus image.dm4 --energy-kev 300 --cs-mm 1.2`.

    The focus is that of the amorphous film. An answer is believed if its rings explain the whole spectrum and
    no other defocus, astigmatism or Cs does, in twice the range; otherwise no number is given, and the reason
    says what failed and what would fit. Without much Cs the rings cannot check pixel size and energy: the
    defocus goes with the square of the pixel size. Exit status: 0 also where it is not believed.
    """
    from passband.optics.about import about_focus, focus_of, focus_to_json
    from passband.units import KEV, MM

    fit = focus_of(
        reading_of(pixel_size_nm, None, frame, permissive).read(micrograph),
        energy=None if energy_kev is None else energy_kev * KEV,
        C30=(least_cs_mm * MM, most_cs_mm * MM) if cs_mm is None else cs_mm * MM,
        most_defocus=most_defocus,
        most_astigmatism=most_astigmatism,
    )
    if json:
        sys.stdout.write(focus_to_json(fit))
        return
    for name, words in about_focus(fit):
        typer.echo(f"{name + ':':<20}{words}")


def image(
    wave: Annotated[
        Path, typer.Argument(help="Complex exit wave: .npz of multislice, .npy (y, x), abTEM's Zarr folder.")
    ],
    out: Annotated[Path, typer.Option(help="The image, .npy, float32 (y, x).")],
    pixel_size: Annotated[float | None, typer.Option(help="Of the wave, Å; only an .npy needs it.")] = None,
    energy_kev: Annotated[float | None, typer.Option(help="Electron energy; only an .npy needs it.")] = None,
    defocus: Defocus = 0.0,
    cs_mm: CsMm = 0.0,
    c5_mm: C5Mm = 0.0,
    focal_spread: FocalSpread = 0.0,
    angular_spread_mrad: AngularSpread = 0.0,
    astigmatism: Astigmatism = 0.0,
    astigmatism_angle: AstigmatismAngle = 0.0,
    coma: Annotated[float, typer.Option(help="Axial coma, Å.")] = 0.0,
    coma_angle: Annotated[float, typer.Option(help="Its azimuth from x towards y, degrees.")] = 0.0,
    threefold: Annotated[float, typer.Option(help="Threefold astigmatism, Å.")] = 0.0,
    threefold_angle: Annotated[float, typer.Option(help="Its azimuth from x towards y, degrees.")] = 0.0,
    aperture_mrad: ApertureMrad = None,
    image_pixel_size: Annotated[
        float | None, typer.Option(help="Of the image, Å.", show_default="the wave's")
    ] = None,
    integrate_pixels: Annotated[
        bool, typer.Option("--integrate-pixels", help="A pixel collects over its area, not at its centre.")
    ] = False,
    mtf_half: Annotated[
        float | None,
        typer.Option(
            help="Cycles per pixel where the camera's MTF is one half.", show_default="perfect camera"
        ),
    ] = None,
    drift_x: Annotated[float, typer.Option(help="How far the specimen moves in the exposure, Å.")] = 0.0,
    drift_y: Annotated[float, typer.Option(help="The same along y.")] = 0.0,
    dose: Annotated[
        float | None,
        typer.Option(help="e/Å²; gives electrons counted with Poisson's noise instead of intensity."),
    ] = None,
    vibration: Annotated[
        float, typer.Option(help="Standard deviation of the specimen's place along each axis, Å.")
    ] = 0.0,
    inelastic_share: Annotated[
        float, typer.Option(help="Share of electrons that lost energy: an even background, 0 to 1.")
    ] = 0.0,
    quantum_efficiency: Annotated[
        float, typer.Option(help="The camera's DQE for what varies slowly, up to 1.")
    ] = 1.0,
    dqe_falloff: Annotated[
        float,
        typer.Option(help="DQE falls as MTF to twice this power; 0: noise is blurred as signal, 1: white."),
    ] = 0.0,
    gain: Annotated[float, typer.Option(help="Counts for an electron.")] = 1.0,
    offset: Annotated[float, typer.Option(help="Counts without electrons.")] = 0.0,
    readout: Annotated[float, typer.Option(help="Standard deviation of a pixel's reading, counts.")] = 0.0,
    gain_noise: Annotated[
        float, typer.Option(help="Standard deviation of the pixels' gains, over their mean.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the counting noise.")] = 0,
    json: Json = False,
) -> None:
    """Image an exit wave: intensity for an incident wave of 1, or counts where a dose is given.

    The focal spread is averaged over as a sum of coherent images, as many as keep the error under 1 %.

    For example `passband image wave.npz --defocus 500 --cs-mm 1.2 --focal-spread 30 --dose 400
    --out image.npy`.
    """
    from passband.hrtem.wave.files import read_wave, write_array
    from passband.hrtem.wave.focal_average import focal_nodes
    from passband.hrtem.wave.imaging import simulate_micrographs
    from passband.units import KEV

    exit_wave = read_wave(
        wave, pixel_size=pixel_size, energy=None if energy_kev is None else energy_kev * KEV
    )
    own = exit_wave.pixel_sizes[0]
    conditions = _conditions(
        energy_kev=exit_wave.energy / KEV,
        defocus=defocus,
        cs_mm=cs_mm,
        c5_mm=c5_mm,
        focal_spread=focal_spread,
        angular_spread_mrad=angular_spread_mrad,
        aperture_mrad=aperture_mrad,
        C12=astigmatism,
        phi12=math.radians(astigmatism_angle),
        C21=coma,
        phi21=math.radians(coma_angle),
        C23=threefold,
        phi23=math.radians(threefold_angle),
        dose=math.inf if dose is None else dose,
        mtf_half=math.inf if mtf_half is None else mtf_half,
        drift_x=drift_x,
        drift_y=drift_y,
        integrate_pixels=integrate_pixels,
        vibration=vibration,
        inelastic_share=inelastic_share,
        quantum_efficiency=quantum_efficiency,
        dqe_falloff=dqe_falloff,
        gain=gain,
        offset=offset,
        readout=readout,
        gain_noise=gain_noise,
        pixel_size=own if image_pixel_size is None else image_pixel_size,
    )
    pixels = simulate_micrographs(exit_wave, [conditions], seed=seed)[0].numpy()
    write_array(out, pixels)
    terms = len(focal_nodes(conditions, exit_wave))
    if json:
        told = {k: v if math.isfinite(v) else str(v) for k, v in asdict(conditions).items()}
        mean = float(pixels.mean())
        about = {"out": str(out), "shape": pixels.shape, "mean": mean, "terms": terms, "conditions": told}
        typer.echo(json_text.dumps(about))
        return
    how = f"{terms} coherent images for the focal spread" if terms > 1 else "the quasi-coherent envelope"
    counts = "electrons" if (gain, offset) == (1, 0) else "counts"
    what = f"{counts} per pixel" if math.isfinite(conditions.dose) else "intensity for an incident wave of 1"
    typer.echo(
        f"wrote {out}: {pixels.shape[0]} x {pixels.shape[1]}, {what}, mean {pixels.mean():.4g}, with {how}"
    )


def multislice(
    atoms: Annotated[
        Path,
        typer.Argument(
            help="Atoms: extended .xyz or .cif, in a cell that is rectangular or can be repeated to be."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The exit wave: .npz, which keeps pixels and energy, or .npy.")],
    pixel_size: Annotated[
        float | None, typer.Option(help="Å.", show_default="what the elements need")
    ] = None,
    energy_kev: EnergyKev = 300.0,
    slice_thickness: Annotated[
        float | None, typer.Option(help="Å.", show_default="what the elements need")
    ] = None,
    debye_waller: Annotated[
        float, typer.Option(help="B of atoms whose file gives none, Å²; 0 leaves them at rest.")
    ] = 0.0,
    absorption: Annotated[
        float,
        typer.Option(help="Share of the electrons scattered by thermal motion that is lost, 0 to 1."),
    ] = 0.0,
    plot: Annotated[Path | None, typer.Option(help="Draw amplitude and phase: .png, .svg or .pdf.")] = None,
    json: Json = False,
) -> None:
    """Calculate the exit wave of atoms: the wave at the cell's exit face, 1 in vacuum.

    The beam travels towards +z through a cell that is periodic in x and y. Pixels and slices divide the cell
    and are no larger than asked for; left out, they are as fine as images within 2 % need.

    For example `passband multislice atoms.xyz --energy-kev 300 --out wave.npz`, then
    `passband image wave.npz --defocus 60 --out image.npy`.
    """
    from passband.hrtem.specimen.files import read_specimen
    from passband.hrtem.wave.files import EXIT_FACE, write_wave
    from passband.hrtem.wave.scattering import WaveSettings, exit_wave
    from passband.units import KEV

    settings = WaveSettings(
        energy=energy_kev * KEV,
        pixel_size=pixel_size,
        slice_thickness=slice_thickness,
        band=math.inf,
        absorption=absorption,
    )
    specimen = read_specimen(atoms, debye_waller=debye_waller)
    wave = exit_wave(specimen, settings, at_exit_face=True)
    write_wave(out, wave, plane=EXIT_FACE)
    (rows, columns), sizes = wave.band.shape, wave.pixel_sizes
    if json:
        about = {
            "out": str(out),
            "shape": [rows, columns],
            "pixel_size": sizes,
            "atoms": len(specimen.numbers),
        }
        typer.echo(json_text.dumps(about))
    else:
        typer.echo(
            f"wrote {out}: {rows} x {columns} pixels of {sizes[0]:.6g} x {sizes[1]:.6g} Å (y, x), "
            f"{len(specimen.numbers)} atoms"
        )
    if plot is not None:
        from passband.drawing.saving import save_figure
        from passband.hrtem.wave.figures import draw_exit_wave

        typer.echo(f"drawn: {save_figure(draw_exit_wave(wave), plot)}", err=json)


def _conditions(
    *,
    energy_kev: float,
    defocus: float,
    cs_mm: float,
    c5_mm: float,
    focal_spread: float,
    angular_spread_mrad: float,
    aperture_mrad: float | None,
    **others: float,
) -> ImagingConditions:
    """Imaging conditions from a command's units; the others are named and measured as theirs."""
    from passband.optics.conditions import ImagingConditions
    from passband.units import KEV, MM

    return ImagingConditions(
        energy=energy_kev * KEV,
        C10=-defocus,
        C30=cs_mm * MM,
        C50=c5_mm * MM,
        focal_spread=focal_spread,
        angular_spread=angular_spread_mrad / 1e3,
        aperture=math.inf if aperture_mrad is None else aperture_mrad / 1e3,
        **others,  # type: ignore[arg-type]
    )
