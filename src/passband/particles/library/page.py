"""A classified library of particles as one self-contained page, with its table and crops beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from passband.drawing.html import page
from passband.drawing.parts import Histogram, histogram
from passband.drawing.saving import CLASS_COLOURS
from passband.errors import DatasetError
from passband.particles.extraction.crop import COLUMNS
from passband.particles.library.crop_pictures import (
    ACROSS,
    Thumbnail,
    crops_at,
    crops_zip,
    micrograph_of,
    sprite_sheets,
    strip,
    thumbnails,
)
from passband.particles.library.table import ClassifiedLibrary, class_columns
from passband.particles.model import traverse
from passband.store.columns import columns_csv
from passband.store.files import write_whole
from passband.types import Progress
from passband.units import NM
from passband.words import counted, number_text

EMBEDDED = 3000
"""Particles whose crops are in the page at most; the others are in the table and the zip."""
EXAMPLES = 18
"""Typical and doubtful members shown of each class, at most."""
STEPS = 9
"""Images of a class as one factor changes."""
_RANGE = 5, 95  # percentiles of the members that a factor is shown between


class _Sizes(NamedTuple):
    values: npt.NDArray[np.float64]
    unit: str


class _Embedded(NamedTuple):
    """Which particles are in the page, and the place of each there, -1 for none."""

    chosen: Int[np.ndarray, " m"]
    at: Int[np.ndarray, " n"]


class _Tile(NamedTuple):
    """A particle in a grid: its place in the page, and in the sprite sheets."""

    place: int
    sheet: int
    row: int
    column: int
    words: str
    probability: float
    distance: float
    rejected: bool


@dataclass(frozen=True, kw_only=True)
class _Class:
    """A class as the page shows it; without members there is no mean, and nothing to show."""

    k: int
    name: str
    colour: str
    count: int
    share: float
    rejected: int
    labelled: int
    probability: float
    quartiles: list[str]
    typical: list[_Tile]
    doubtful: list[_Tile]
    sizes: Histogram | None
    factors: list[tuple[str, str]]


def write_library_report(
    found: ClassifiedLibrary, folder: str | Path, *, progress: Progress | None = None
) -> Path:
    """Write report.html, particles.csv and crops.zip.

    Parameters
    ----------
    found
        A library and what a model says of its particles.
    folder
        Made where it is missing. Each file appears whole or not at all.
    progress
        Called with the micrograph begun, how many are done, and how many there are.

    Returns
    -------
    Path
        Of the page; it needs no network and no other file.

    Raises
    ------
    DatasetError
        If the library has no particle, or is damaged.
    PassbandError
        If a file cannot be written.
    """
    if not len(found):
        raise DatasetError(f"{found.library.folder} holds no particle to report on; add micrographs first")
    folder, library = Path(folder), found.library
    own = class_columns(found)
    table = {
        "particle": library.table["particle"],
        "label": library.labels,
        "source": library.table["source"],
    }
    write_whole(folder / "particles.csv", columns_csv(table | {c: library.table[c] for c in COLUMNS} | own))
    which = np.where(found.answer.rejected, len(found.model.classes), found.answer.label)
    write_whole(folder / "crops.zip", crops_zip(library, [*found.model.classes, "rejected"], which))
    return write_whole(folder / "report.html", library_page(found, progress=progress))


def library_page(found: ClassifiedLibrary, *, progress: Progress | None = None) -> str:
    """The self-contained HTML page.

    Parameters
    ----------
    found
        At least one particle.
    progress
        Called with the micrograph begun, how many are done, and how many there are.

    Returns
    -------
    str
        The same for the same library and model.
    """
    embedded, sizes = _embedded(found), _sizes(found)
    small = thumbnails(found.library, embedded.chosen, progress=progress)
    classes = [_class(found, k, sizes, embedded) for k in range(len(found.model.classes))]
    name, many = found.library.folder.resolve().name, counted(len(found), "particle")
    return page(
        "particles/library/page.html",
        title=f"{name}: {many}",
        headline=f"{name}: {many} of {counted(len(small), 'micrograph')}",
        subtitle=_subtitle(found),
        counts=[(f"c{c.k}", c.count) for c in classes],
        classes=classes,
        unit=sizes.unit,
        caption=_caption(found, sizes),
        shown=_shown(len(embedded.chosen), len(found)),
        steps=STEPS,
        across=ACROSS,
        sprites=sprite_sheets(crops_at(found.library, embedded.chosen)),
        rejected=int(found.answer.rejected.sum()),
        strangers=_tiles(found, _strangest(found), embedded),
        model=model_lines(found),
        data=_data(found, sizes, embedded, small),
    )


def model_lines(found: ClassifiedLibrary) -> list[tuple[str, str]]:
    """What the model was trained on and how well it did.

    Returns
    -------
    list of (str, str)
        Name and words of each line.
    """
    model, about = found.model, found.model.training
    lines = [("model", model.name)] + ([("digest", model.digest)] if model.digest else [])
    counts = about.get("labels")
    if counts:
        told = ", ".join(f"{n} {name}" for name, n in zip(model.classes, counts, strict=False))
        lines.append(("labelled crops", told))
    for key, name in (
        ("unlabelled", "unlabelled crops"),
        ("epochs", "passes of the autoencoder"),
        ("seed", "seed"),
    ):
        if about.get(key) is not None:
            lines.append((name, str(about[key])))
    if "held_out_accuracy" in about:
        value = about["held_out_accuracy"]
        none = "not measured: it wants at least four labelled crops of every class"
        said = none if value is None else f"{value:.3f} on labelled crops kept from a first fit, deformed"
        lines.append(("held-out accuracy", said))
    for key, value in dict(about.get("about", {})).items():
        if isinstance(value, (str, int, float)):
            lines.append((key.replace("_", " "), str(value)))
    if found.model.generator is None:
        lines.append(("autoencoder", "none: classes only, neither poses nor factors"))
    labelled = np.isin(found.library.labels, model.classes)
    if labelled.any():
        said_class = np.array(model.classes)[found.answer.label]
        right = int((said_class == found.library.labels)[labelled].sum())
        lines.append(
            (
                "labels of this library",
                f"{right} of {labelled.sum()} are called as labelled; the model may have learnt from them",
            )
        )
    rejected = found.answer.rejected
    lines.append(("rejected here", f"{rejected.sum()} of {len(found)} ({100 * rejected.mean():.1f} %)"))
    return lines


def _subtitle(found: ClassifiedLibrary) -> str:
    digest = f" ({found.model.digest[:12]})" if found.model.digest else ""
    return f"Folder {found.library.folder} · model {found.model.name}{digest}"


def _caption(found: ClassifiedLibrary, sizes: _Sizes) -> str:
    said = "A particle counts for its most probable class; rejected ones are unlike all that was learnt from."
    unknown = int((~np.isfinite(sizes.values)).sum())
    if sizes.unit == "px":
        said += " No pixel size is known: sizes are in pixels of the micrographs."
    elif unknown:
        said += f" Sizes leave out {counted(unknown, 'particle')} without a pixel size."
    return said


def _shown(shown: int, total: int) -> str:
    if shown == total:
        return "All particles are shown; click one."
    return (
        f"{shown} of {total} particles are shown: the typical and the doubtful ones, and others at random. "
        "particles.csv and crops.zip hold all. Click one."
    )


def _sizes(found: ClassifiedLibrary) -> _Sizes:
    nm = found.library.table["diameter_nm"]
    if np.isfinite(nm).any():
        return _Sizes(nm, "nm")
    return _Sizes(found.library.table["diameter_px"], "px")


def _members(found: ClassifiedLibrary, k: int) -> Int[np.ndarray, " m"]:
    """Places of a class's members, the most typical first."""
    mine = np.flatnonzero(found.answer.label == k)
    return mine[np.argsort(found.doubt[mine], kind="stable")]


def _examples(found: ClassifiedLibrary, k: int) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
    """The most typical members, and of the others the most doubtful, worst first."""
    members = _members(found, k)
    typical = members[: min(EXAMPLES, -(-len(members) // 2))]
    return typical, members[len(typical) :][::-1][:EXAMPLES]


def _embedded(found: ClassifiedLibrary) -> _Embedded:
    """The examples, the strangest, and others at random up to the limit."""
    n = len(found)
    first = [
        _strangest(found),
        *(part for k in range(len(found.model.classes)) for part in _examples(found, k)),
    ]
    order = np.concatenate([*first, np.random.default_rng(0).permutation(n)])
    _, earliest = np.unique(order, return_index=True)
    chosen = np.sort(order[np.sort(earliest)][:EMBEDDED])
    at = np.full(n, -1)
    at[chosen] = np.arange(len(chosen))
    return _Embedded(chosen, at)


def _strangest(found: ClassifiedLibrary) -> Int[np.ndarray, " m"]:
    order = np.argsort(-found.answer.distance, kind="stable")
    strangest: np.ndarray = order[found.answer.rejected[order]][: 2 * EXAMPLES]
    return strangest


def _class(found: ClassifiedLibrary, k: int, sizes: _Sizes, embedded: _Embedded) -> _Class:
    """One class: how many, how sure, how large, its typical and doubtful members, its factors."""
    mine = found.answer.label == k
    count, name = int(mine.sum()), found.model.classes[k]
    known = np.isfinite(sizes.values)
    own = sizes.values[mine & known]
    quartiles = np.percentile(own, (25, 50, 75)).tolist() if own.size else []
    # One axis for all classes, so that they can be compared.
    top = float(np.percentile(sizes.values[known], 99.5)) * 1.15 if own.size else None
    typical, doubtful = _examples(found, k)
    return _Class(
        k=k,
        name=name,
        colour=CLASS_COLOURS[k % len(CLASS_COLOURS)],
        count=count,
        share=count / len(found),
        rejected=int(found.answer.rejected[mine].sum()),
        labelled=int((found.library.labels == name).sum()),
        probability=float(found.probability[mine].mean()) if count else 0.0,
        quartiles=[number_text(q) for q in quartiles],
        typical=_tiles(found, typical, embedded),
        doubtful=_tiles(found, doubtful, embedded),
        sizes=histogram(own, sizes.unit, top=top, bins=int(np.clip(2 * np.sqrt(known.sum()), 8, 40))),
        factors=_factors(found, k) if count else [],
    )


def _tiles(found: ClassifiedLibrary, chosen: Int[np.ndarray, " m"], embedded: _Embedded) -> list[_Tile]:
    tiles = []
    for i in chosen.tolist():
        place = int(embedded.at[i])
        sheet, within = divmod(place, ACROSS**2)
        row, column = divmod(within, ACROSS)
        p, d = float(found.probability[i]), float(found.answer.distance[i])
        name = found.model.classes[found.answer.label[i]]
        words = f"{found.library.table['particle'][i]}: {name}, probability {p:.2f}, distance {d:.2f}"
        rejected = bool(found.answer.rejected[i])
        tiles.append(_Tile(place, sheet, row, column, words, p, d, rejected))
    return tiles


def _factors(found: ClassifiedLibrary, k: int) -> list[tuple[str, str]]:
    """The class as each factor, and its size, goes over the range of its members: words and picture."""
    d = found.description
    if d is None:
        return []
    mine = found.answer.label == k
    columns: dict[int | str, Float[np.ndarray, " n"]] = {j: d.latent[:, j] for j in range(d.latent.shape[1])}
    columns["scale"] = d.scale
    rows = []
    for factor, values in columns.items():
        low, high = np.percentile(values[mine], _RANGE)
        if high - low < 1e-4:
            continue
        images = traverse(found.model, k, factor, np.linspace(low, high, STEPS, dtype=np.float32))
        name = f"factor {factor + 1}" if isinstance(factor, int) else factor
        rows.append((f"{name}, {low:.2g} to {high:.2g}", strip(images)))
    return rows


def _data(
    found: ClassifiedLibrary, sizes: _Sizes, embedded: _Embedded, small: list[Thumbnail]
) -> dict[str, Any]:
    """What the page's script works on, to be written as JSON."""
    library, a, d, i = found.library, found.answer, found.description, embedded.chosen
    t = library.table
    axes: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    if d is not None:
        axes |= {f"factor {j + 1}": d.latent[i, j] for j in range(d.latent.shape[1])}
        axes |= {"relative size": d.scale[i], "angle (degrees)": d.angle[i]}
        facts |= {"angle_spread": d.angle_spread[i], "right": d.shift[i, 0], "up": d.shift[i, 1]}
    axes |= {f"diameter ({sizes.unit})": sizes.values[i], "eccentricity": t["eccentricity"][i]}
    axes |= {"solidity": t["solidity"][i], "distance": a.distance[i], "probability": found.probability[i]}
    facts["width_nm"] = t["scale"][i] * t["pixel_size"][i] * library.settings.size / NM
    return {
        "classes": found.model.classes,
        "across": ACROSS,
        "id": t["particle"][i].tolist(),
        "label": library.labels[i].tolist(),
        "class": a.label[i].tolist(),
        "rejected": a.rejected[i].astype(int).tolist(),
        "probabilities": [[_short(p) for p in row] for row in a.probabilities[i].tolist()],
        "axes": {name: [_short(v) for v in values.tolist()] for name, values in axes.items()},
        "facts": {name: [_short(v) for v in values.tolist()] for name, values in facts.items()},
        "micrograph": micrograph_of(library)[i].tolist(),
        "box": np.column_stack([t[n][i] for n in ("box_x0", "box_y0", "box_x1", "box_y1")]).tolist(),
        "first": int(embedded.at[_members(found, int(a.label[0]))[0]]),
        "micrographs": [_micrograph(s) for s in small],
    }


def _micrograph(small: Thumbnail) -> dict[str, Any]:
    about: dict[str, Any] = {"name": small.record.source}
    p = small.picture
    if p is None:
        return about | {"missing": small.missing}
    return about | {"width": p.width, "height": p.height, "scale": p.scale, "image": p.address}


def _short(value: float) -> float | None:
    """Four digits are enough for a page; JSON knows no NaN."""
    return float(f"{value:.4g}") if np.isfinite(value) else None
