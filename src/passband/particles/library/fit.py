"""Libraries of particles to models, classes and reports: what the commands on particles do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from passband.errors import DatasetError, ParameterError
from passband.particles.batches import calibrate_particles
from passband.particles.bundle import read_particle_model
from passband.particles.crop_sets import CropSet
from passband.particles.fit import ParticleConfig, fit_into
from passband.particles.library.crop_pictures import batches
from passband.particles.library.library import ParticleLibrary, open_library
from passband.particles.library.page import write_library_report
from passband.particles.library.table import ClassifiedLibrary, class_columns, join_descriptions
from passband.particles.model import ParticleModel, classify_particles, describe_particles
from passband.particles.networks.invariant import Classification
from passband.particles.networks.train_rvae import RVAETraining
from passband.particles.stress import stress_rows
from passband.store.columns import columns_csv
from passband.store.folders import write_file
from passband.types import Progress

CLASSES = "classes.csv"
_CROPS = 12_000  # that the default number of passes is chosen for


@dataclass(frozen=True, kw_only=True)
class LibraryFit:
    """What came of fitting a model to a library.

    Parameters
    ----------
    bundle
        File of the model.
    model
        The model.
    labelled
        How many labelled crops there are of each class.
    unlabelled
        How many other crops were learnt from.
    """

    bundle: Path
    model: ParticleModel
    labelled: dict[str, int]
    unlabelled: int

    @property
    def held_out_accuracy(self) -> float | None:
        """On labelled crops kept from a first fit; None where they are too few to keep any."""
        value = self.model.training.get("held_out_accuracy")
        return None if value is None else float(value)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "bundle": str(self.bundle),
            "digest": self.model.digest,
            "labelled": self.labelled,
            "unlabelled": self.unlabelled,
            "held_out_accuracy": self.held_out_accuracy,
            "autoencoder": self.model.generator is not None,
        }


@dataclass(frozen=True, kw_only=True)
class ClassSummary:
    """How many particles are called what.

    Parameters
    ----------
    counts
        Of each class, rejected ones included.
    mean_probability
        Of each class's particles, of their class; None where there is none.
    rejected
        How many are unlike all that was learnt from.
    total
        How many there are.
    """

    counts: dict[str, int]
    mean_probability: dict[str, float | None]
    rejected: int
    total: int


def crops_of_library(library: ParticleLibrary) -> CropSet:
    """The labelled crops of a library with their labels, and all others.

    Parameters
    ----------
    library
        With labels of at least two classes.

    Returns
    -------
    CropSet
        Classes in the order of their names.

    Raises
    ------
    DatasetError
        If there is no particle, no label, or one class alone.
    """
    teach = f"label some with `passband particles label {library.folder} TABLE`"
    names = sorted(set(library.labels.tolist()) - {""})
    if not len(library):
        raise DatasetError(_empty(library))
    if not names:
        raise DatasetError(f"{library.folder}: none of {len(library)} particles has a label; {teach}")
    if len(names) == 1:
        raise DatasetError(
            f"{library.folder}: all labels are {names[0]!r}; two classes at least are wanted: {teach}"
        )
    crops = np.concatenate([some for _, some in batches(library)])
    labelled = library.labels != ""
    return CropSet(
        classes=tuple(names),
        labelled=crops[labelled],
        labels=np.searchsorted(names, library.labels[labelled]).astype(np.int64),
        unlabelled=crops[~labelled],
        about={
            "library": library.folder.resolve().name,
            "particles": len(library),
            "extraction": library.settings.values(),
        },
    )


def passes_of(folder: str | Path) -> int:
    """How many passes of the autoencoder do for a library: few crops want more of them.

    Returns
    -------
    int
        At least 12, and as many as give the steps that 12 passes over 12 000 crops are.

    Raises
    ------
    DatasetError
        If the library cannot be used.
    """
    default = RVAETraining()
    steps = math.ceil(_CROPS / default.batch) * default.epochs
    batches_a_pass = max(1, math.ceil(len(open_library(folder)) / default.batch))
    return max(default.epochs, math.ceil(steps / batches_a_pass))


def fit_library(
    folder: str | Path,
    bundle: str | Path,
    config: ParticleConfig | None = None,
    *,
    calibrate: bool = False,
    progress: Progress | None = None,
) -> LibraryFit:
    """Fit a model to a library's labels and to its other crops, and write it.

    A run that is stopped while the autoencoder trains goes on where it was when it is run again; until it
    is done, a folder beside the bundle holds its checkpoint.

    Parameters
    ----------
    folder
        Of the library.
    bundle
        File to write.
    config
        What to fit; the defaults if not given.
    calibrate
        Whether it also learns to tell its accuracy, from the labelled crops made worse in known ways. It
        has learnt from these crops, so it may think a little too well of itself.
    progress
        Called as work goes on.

    Raises
    ------
    DatasetError
        If the library cannot be used, or has no labels of two classes.
    ParameterError
        If the bundle is a folder, or beside it lies the checkpoint of another run.
    """
    bundle = Path(bundle)
    if bundle.is_dir():
        raise ParameterError(
            f"{bundle} is a folder; give the file of the bundle, as {bundle / 'shapes.bundle'}"
        )
    crops = crops_of_library(open_library(folder))

    def calibrated(model: ParticleModel) -> ParticleModel:
        rows = stress_rows(model, crops.labelled, crops.labels, seed=1, strengths=8, batches=3, least=4)
        return calibrate_particles(model, list(rows))

    config = config or ParticleConfig(name=bundle.stem)
    model = fit_into(bundle, crops, config, finish=calibrated if calibrate else None, progress=progress)
    counts = np.bincount(crops.labels, minlength=len(crops.classes)).tolist()
    return LibraryFit(
        bundle=bundle,
        model=model,
        labelled=dict(zip(crops.classes, counts, strict=True)),
        unlabelled=0 if crops.unlabelled is None else len(crops.unlabelled),
    )


def classify_library(
    folder: str | Path, bundle: str | Path, *, progress: Progress | None = None
) -> ClassifiedLibrary:
    """Classify and describe every particle of a library, and write its classes.csv.

    Parameters
    ----------
    folder
        Of the library.
    bundle
        From `fit_library`.
    progress
        Called as work goes on.

    Raises
    ------
    DatasetError
        If the library cannot be used, has no particle, or crops of another size than the bundle's.
    BundleError
        If the bundle is damaged, or does not classify particles.
    """
    model, library = read_particle_model(bundle), open_library(folder)
    if not len(library):
        raise DatasetError(_empty(library))
    size = library.settings.size
    if size != model.size:
        raise DatasetError(
            f"{library.folder} has crops of {size} pixels a side, {bundle} takes {model.size}; make the "
            f"library with `passband particles extract --size {model.size}`, or fit a bundle to this one"
        )
    answers, descriptions = [], []
    for first, crops in batches(library):
        if progress:
            progress("particles", first, len(library))
        answers.append(classify_particles(model, crops))
        if model.generator is not None:
            descriptions.append(describe_particles(model, crops, answer=answers[-1]))
    answer = Classification(
        probabilities=np.concatenate([a.probabilities for a in answers]),
        distance=np.concatenate([a.distance for a in answers]),
    )
    found = ClassifiedLibrary(
        library=library,
        model=model,
        answer=answer,
        description=join_descriptions(descriptions, answer) if descriptions else None,
    )
    write_file(library.folder / CLASSES, columns_csv(class_columns(found)))
    return found


def report_library(
    folder: str | Path, bundle: str | Path, out: str | Path, *, progress: Progress | None = None
) -> Path:
    """Classify a library and write a page on it, with its table and crops beside.

    Parameters
    ----------
    folder
        Of the library.
    bundle
        From `fit_library`.
    out
        Folder for the page.
    progress
        Called as work goes on.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    DatasetError, BundleError
        As `classify_library`.
    """
    return write_library_report(classify_library(folder, bundle, progress=progress), out, progress=progress)


def summarise_classes(found: ClassifiedLibrary) -> ClassSummary:
    """Counts and mean probabilities of the classes of a library."""
    names, label = found.model.classes, found.answer.label
    counts = np.bincount(label, minlength=len(names))
    return ClassSummary(
        counts=dict(zip(names, counts.tolist(), strict=True)),
        mean_probability={
            name: float(found.probability[label == k].mean()) if counts[k] else None
            for k, name in enumerate(names)
        },
        rejected=int(found.answer.rejected.sum()),
        total=len(found),
    )


def fit_in_words(fit: LibraryFit) -> str:
    """What came of a fit, a line for each thing to know."""
    told = ", ".join(f"{n} {name}" for name, n in fit.labelled.items())
    accuracy = fit.held_out_accuracy
    if accuracy is None:
        said = "held-out accuracy: not measured; label at least four of every class to have it"
    else:
        said = f"held-out accuracy {accuracy:.3f}, on labelled crops kept from a first fit and deformed"
    return f"learnt from {told}, and {fit.unlabelled} unlabelled crops\n{said}\nwrote {fit.bundle}"


def classes_in_words(summary: ClassSummary) -> str:
    """Counts of the classes, a line for each, and how many are rejected."""
    width = max(map(len, summary.counts))
    lines = []
    for name, n in summary.counts.items():
        mean = summary.mean_probability[name]
        lines.append(f"{name:{width}}  {n:6d}" + ("" if mean is None else f"   mean probability {mean:.3f}"))
    share = 100 * summary.rejected / summary.total
    return "\n".join(
        [*lines, f"{summary.rejected} of {summary.total} ({share:.1f} %) are unlike all that was learnt from"]
    )


def _empty(library: ParticleLibrary) -> str:
    return (
        f"{library.folder} holds no particle; add micrographs with "
        f"`passband particles extract MICROGRAPHS --out {library.folder}`"
    )
