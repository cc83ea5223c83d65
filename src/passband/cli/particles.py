"""Commands on particles: extract, label, fit, classify, report."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passband.cli.foreign import (
    CategoryOption,
    ImageListOption,
    ScoreThresholdOption,
    StrictOption,
    detections_file,
    print_notes,
)
from passband.cli.shell import (
    FramesOption,
    PermissiveOption,
    PixelSizeOption,
    SidecarOption,
    reading_of,
    show_progress,
)
from passband.words import counted

if TYPE_CHECKING:
    from passband.particles.library.library import Extraction

Library = Annotated[Path, typer.Argument(help="Folder made by `passband particles extract`.")]
ParticleBundle = Annotated[Path, typer.Argument(help="Made by `passband particles fit`.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_SHOWN = 8
"""Of many files so many are named."""


class Polarity(StrEnum):
    """What particles are on their background."""

    auto = "auto"
    bright = "bright"
    dark = "dark"


class Threshold(StrEnum):
    """How particles are told from the background."""

    otsu = "otsu"
    local = "local"


def extract(
    micrographs: Annotated[
        list[str], typer.Argument(help="Micrographs, folders, or wildcards in quotes ('run*/**/*.dm4').")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the library. Run again to resume or to add.")],
    detections: Annotated[
        Path | None,
        typer.Option(
            help="Outlines from elsewhere instead of thresholding: COCO, YOLO, label images and more."
        ),
    ] = None,
    image_list: ImageListOption = None,
    score_threshold: ScoreThresholdOption = None,
    category: CategoryOption = None,
    strict: StrictOption = False,
    polarity: Annotated[Polarity, typer.Option(help="Particles on their background.")] = Polarity.auto,
    threshold: Annotated[
        Threshold, typer.Option(help="local: for uneven illumination or support.")
    ] = Threshold.otsu,
    smoothing: Annotated[float, typer.Option(help="Before thresholding, pixels.")] = 1.5,
    split: Annotated[
        bool, typer.Option(help="Cut touching particles apart, or keep each cluster as one.")
    ] = True,
    neck: Annotated[
        float, typer.Option(help="How much narrower than its sides a neck is to be cut, 0 to 1.")
    ] = 0.2,
    least_solidity: Annotated[float, typer.Option(help="Share of its convex hull that one fills.")] = 0.8,
    least_share: Annotated[
        float, typer.Option(help="Least diameter over the typical one; 0 where sizes differ widely.")
    ] = 0.3,
    least_diameter_nm: Annotated[float | None, typer.Option(help="Where the pixel size is known.")] = None,
    least_diameter_px: Annotated[
        float | None, typer.Option(help="Where it is not.", show_default="8")
    ] = None,
    greatest_diameter_nm: Annotated[float | None, typer.Option(help="Where it is known.")] = None,
    greatest_diameter_px: Annotated[float | None, typer.Option(help="Where it is not.")] = None,
    keep_border: Annotated[
        bool, typer.Option("--keep-border", help="Keep particles cut by the micrograph's edge.")
    ] = False,
    size: Annotated[int, typer.Option(help="Side of a crop, pixels.")] = 48,
    window_nm: Annotated[
        float | None, typer.Option(help="Width that a crop shows.", show_default="from the particles")
    ] = None,
    window_px: Annotated[
        float | None, typer.Option(help="The same, where the pixel size is unknown.")
    ] = None,
    hide_neighbours: Annotated[
        bool, typer.Option("--hide-neighbours", help="Other particles in a crop become background.")
    ] = False,
    pixel_size_nm: PixelSizeOption = None,
    sidecar: SidecarOption = None,
    frame: FramesOption = None,
    permissive: PermissiveOption = False,
    json: Json = False,
) -> None:
    """Find the particles of micrographs and cut each out, on one scale, into a library.

    For example:

    - `passband particles extract images/ --out particles`

    - `passband particles extract run7/ --out run7-clusters --no-split --sidecar sizes.csv`

    - `passband particles extract images/ --out mine --detections label_images/`

    A micrograph given twice, under whatever name, is kept once. Exit status: 0 all done, 2 something could
    not be read.
    """
    from passband.micrographs.many import find_micrographs
    from passband.particles.extraction.find import ExtractionSettings
    from passband.particles.library.library import extend_library

    settings = ExtractionSettings(
        polarity=polarity.value,
        threshold=threshold.value,
        smoothing=smoothing,
        split=split,
        neck=neck,
        least_solidity=least_solidity,
        least_share=least_share,
        least_diameter_nm=least_diameter_nm,
        least_diameter_px=least_diameter_px,
        greatest_diameter_nm=greatest_diameter_nm,
        greatest_diameter_px=greatest_diameter_px,
        keep_border=keep_border,
        size=size,
        window_nm=window_nm,
        window_px=window_px,
        hide_neighbours=hide_neighbours,
    )
    reading = reading_of(pixel_size_nm, sidecar, frame, permissive, each=True)
    given = detections_file(detections, image_list, score_threshold, category, strict)
    notes: list[str] = []
    files, missing = find_micrographs(micrographs, notes)
    notes += reading.notes_on(files)
    with show_progress("extracting") as progress:
        done = extend_library(out, files, settings, reading=reading, detections=given, progress=progress)
    skipped, notes = (*missing, *done.skipped), [*notes, *done.notes]
    print_notes(notes)
    if json:
        about = {**asdict(done), "folder": str(done.folder), "skipped": skipped, "notes": notes}
        typer.echo(json_text.dumps(about))
    else:
        typer.echo(_in_words(done))
    if skipped:
        typer.echo(f"passband: skipped ({len(skipped)}):", err=True)
    for path, words in skipped:
        typer.echo(f"  {path}: {words}", err=True)
    raise typer.Exit(2 if skipped else 0)


def label(
    library: Library,
    table: Annotated[Path, typer.Argument(help="CSV with columns particle (its id) and label.")],
    json: Json = False,
) -> None:
    """Give particles the labels of a table; the library's own particles.csv can be filled in.

    For example `passband particles label run7-clusters labels.csv`.
    """
    from passband.particles.library.labels import label_library

    done = label_library(library, table)
    if json:
        typer.echo(json_text.dumps(asdict(done)))
        return
    told = ", ".join(f"{n} {name}" for name, n in done.counts.items())
    passed = f"; {counted(done.unlabelled, 'row')} without a label passed over" if done.unlabelled else ""
    typer.echo(f"{counted(done.given, 'particle')} labelled{passed}. The library has: {told}")


def fit(
    library: Library,
    out: Annotated[Path, typer.Option(help="File for the bundle. Run again to resume a run that stopped.")],
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes of the autoencoder.", show_default="12, more where crops are few"),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of the classifier.")] = 1200,
    pool: Annotated[
        int, typer.Option(min=1, help="Deformed crops that it learns from; fewer are quicker, and worse.")
    ] = 12_800,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn.")] = 0,
    classes_only: Annotated[
        bool, typer.Option("--classes-only", help="No autoencoder: much quicker, but no poses or factors.")
    ] = False,
    either_side: Annotated[
        bool,
        typer.Option("--either-side", help="Mirror images of labelled crops are of the same class."),
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Learn to tell its accuracy, from labelled crops made worse."),
    ] = False,
    json: Json = False,
) -> None:
    """Learn classes from the labelled crops of a library; the others are learnt from without labels.

    A dozen labels of each class do well, one is enough to begin. For example:

    - `passband particles fit run7-clusters --out shapes.bundle`

    - `passband particles fit run7-clusters --out quick.bundle --classes-only`

    With `--calibrate`, `passband assess new.dm4 --bundle shapes.bundle` estimates the share of particles
    that get their right class, and judges.
    """
    from passband.particles.fit import ParticleConfig
    from passband.particles.library.fit import fit_in_words, fit_library, passes_of
    from passband.particles.networks.invariant import Nuisances
    from passband.particles.networks.train_rvae import RVAETraining

    training = RVAETraining(epochs=epochs or passes_of(library), seed=seed)
    config = ParticleConfig(
        name=out.stem,
        generative=not classes_only,
        nuisances=Nuisances(mirrored=either_side),
        training=training,
        steps=steps,
        pool=pool,
        seed=seed,
    )
    with show_progress("fitting") as progress:
        done = fit_library(library, out, config, calibrate=calibrate, progress=progress)
    typer.echo(json_text.dumps(done.to_dict()) if json else fit_in_words(done))


def classify(library: Library, bundle: ParticleBundle, json: Json = False) -> None:
    """Write each particle's class, probabilities, pose and factors to classes.csv in the library.

    For example `passband particles classify run7-clusters shapes.bundle`.
    """
    from passband.particles.library.fit import CLASSES, classes_in_words, classify_library, summarise_classes

    with show_progress("classifying") as progress:
        found = classify_library(library, bundle, progress=progress)
    summary = summarise_classes(found)
    if json:
        typer.echo(json_text.dumps({**asdict(summary), "table": str(library / CLASSES)}))
    else:
        typer.echo(f"{classes_in_words(summary)}\nwrote {library / CLASSES}")


def report(
    library: Library,
    bundle: ParticleBundle,
    out: Annotated[Path, typer.Option(help="Folder for the page, its table and the crops.")],
) -> None:
    """Make a page of the classes, their sizes, examples, doubtful ones and a map to click in.

    For example `passband particles report run7-clusters shapes.bundle --out page`.
    """
    from passband.particles.library.fit import report_library

    with show_progress("reporting") as progress:
        page = report_library(library, bundle, out, progress=progress)
    typer.echo(f"wrote {page}, particles.csv and crops.zip")


def _in_words(done: Extraction) -> str:
    """What came of a run, a line for each thing to know."""
    particles, micrographs = counted(done.particles, "particle"), counted(done.micrographs, "micrograph")
    lines = [f"{particles} from {micrographs} added: {done.folder}"]
    if done.total != done.particles:
        total = counted(done.total, "particle")
        lines.append(f"{total} in all, {done.there} of the micrographs were there before")
    if done.empty:
        more = f" and {len(done.empty) - _SHOWN} more" if len(done.empty) > _SHOWN else ""
        lines.append(f"without a particle ({len(done.empty)}): {', '.join(done.empty[:_SHOWN])}{more}")
    lines += [f"{path} is the same micrograph as {other}: left out" for path, other in done.duplicates]
    return "\n".join(lines)
