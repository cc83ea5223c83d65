"""A classified library of particles as one self-contained page, with its table and crops beside it."""

from __future__ import annotations

import base64
import json
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from passband.drawing.html import counted, number_text
from passband.drawing.saving import CLASS_COLOURS
from passband.errors import DatasetError
from passband.particles.crop import COLUMNS
from passband.particles.crop_pictures import (
    ACROSS,
    Thumbnail,
    crops_at,
    crops_zip,
    micrograph_of,
    sprite_sheets,
    strip,
    thumbnails,
)
from passband.particles.model import traverse
from passband.particles.table import ClassifiedLibrary, class_columns
from passband.store.columns import columns_csv
from passband.store.files import write_whole
from passband.types import Progress
from passband.units import NM

EMBEDDED = 3000
"""Particles whose crops are in the page at most; the others are in the table and the zip."""
EXAMPLES = 18
"""Typical and doubtful members shown of each class, at most."""
STEPS = 9
"""Images of a class as one factor changes."""
_RANGE = 5, 95  # percentiles of the members that a factor is shown between
_TILE = 72  # side of a crop in a grid, CSS pixels


class _Sizes(NamedTuple):
    values: npt.NDArray[np.float64]
    unit: str


class _Embedded(NamedTuple):
    """Which particles are in the page, and the place of each there, -1 for none."""

    chosen: Int[np.ndarray, " m"]
    at: Int[np.ndarray, " n"]


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
    classes = found.model.classes
    embedded, sizes = _embedded(found), _sizes(found)
    sheets = sprite_sheets(crops_at(found.library, embedded.chosen))
    small = thumbnails(found.library, embedded.chosen, progress=progress)
    name = found.library.folder.resolve().name
    text = resources.files("passband.particles").joinpath("page.html").read_text("utf-8")
    return Template(text).substitute(
        title=escape(f"{name}: {counted(len(found), 'particle')}"),
        headline=f"{escape(name)}: {counted(len(found), 'particle')} of {counted(len(small), 'micrograph')}",
        subtitle=escape(_subtitle(found)),
        share=_share(found),
        rules="\n".join(_rules(len(classes), sheets)),
        rows=_rows(found, sizes),
        caption=escape(_caption(found, sizes)),
        filters="".join(
            f'<label><input type="checkbox" id="show-{k}" checked> {_dot(k)} {escape(n)}</label>'
            for k, n in enumerate(classes)
        ),
        shown=escape(_shown(len(embedded.chosen), len(found))),
        sections="\n".join(_section(found, k, sizes, embedded) for k in range(len(classes))),
        strangers=_strangers(found, embedded),
        model="".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in model_lines(found)),
        data=_data(found, sizes, embedded, small),
    )


def model_lines(found: ClassifiedLibrary) -> list[tuple[str, str]]:
    """What the model was trained on and how well it did.

    Parameters
    ----------
    found
        A classified library.

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


def _colour(k: int) -> str:
    return CLASS_COLOURS[k % len(CLASS_COLOURS)]


def _dot(k: int) -> str:
    return f'<i class="dot c{k}" aria-hidden="true"></i>'


def _rules(classes: int, sheets: list[str]) -> list[str]:
    """Style of each class and sprite sheet."""
    rules = [f".c{k} {{ --c: {_colour(k)} }}" for k in range(classes)]
    rules += [f"body:has(#show-{k}:not(:checked)) #map .c{k} {{ display: none }}" for k in range(classes)]
    return rules + [f".sheet{s} {{ background-image: url({uri}) }}" for s, uri in enumerate(sheets)]


def _share(found: ClassifiedLibrary) -> str:
    counts = np.bincount(found.answer.label, minlength=len(found.model.classes))
    return "".join(f'<i class="c{k}" style="flex:{n}"></i>' for k, n in enumerate(counts) if n)


def _rows(found: ClassifiedLibrary, sizes: _Sizes) -> str:
    """The table of classes."""
    rows = []
    for k, name in enumerate(found.model.classes):
        mine = found.answer.label == k
        n, rejected = int(mine.sum()), int(found.answer.rejected[mine].sum())
        labelled = int((found.library.labels == name).sum())
        mean = f"{found.probability[mine].mean():.3f}" if n else "&ndash;"
        size = sizes.values[mine & np.isfinite(sizes.values)]
        told = "&ndash;"
        if size.size:
            low, middle, high = (number_text(float(v)) for v in np.percentile(size, (25, 50, 75)))
            told = f'{middle} {sizes.unit} <span class="soft">{low}&ndash;{high}</span>'
        rows.append(
            f'<tr><th scope="row">{_dot(k)} <a href="#class-{k}">{escape(name)}</a></th>'
            f'<td class="num">{n}</td><td class="num">{100 * n / len(found):.1f} %</td>'
            f'<td class="num">{rejected}</td><td class="num">{labelled}</td>'
            f'<td class="num">{mean}</td><td class="num">{told}</td></tr>'
        )
    return "\n".join(rows)


def _section(found: ClassifiedLibrary, k: int, sizes: _Sizes, embedded: _Embedded) -> str:
    """One class: sizes, typical and doubtful members, its factors."""
    name, members = escape(found.model.classes[k]), _members(found, k)
    head = f'<section id="class-{k}"><h2>{_dot(k)} {name} <span class="soft">{len(members)}</span></h2>'
    if not len(members):
        return f'{head}<p class="soft">No particle is called {name}.</p></section>'
    typical, doubtful = _examples(found, k)
    grids = f"<h3>Most typical</h3>{_grid(found, typical, embedded)}"
    if len(doubtful):
        grids += f"<h3>Most doubtful</h3>{_grid(found, doubtful, embedded)}"
    return (
        f'{head}<div class="two"><div>{grids}</div><div>{_histogram(found, k, sizes)}{_factors(found, k)}'
        "</div></div></section>"
    )


def _strangers(found: ClassifiedLibrary, embedded: _Embedded) -> str:
    strangest, n = _strangest(found), int(found.answer.rejected.sum())
    if not n:
        return ""
    some = "" if len(strangest) == n else f" The {len(strangest)} farthest are shown."
    advice = "If they are particles of interest, label some, perhaps as a class of their own, and fit anew."
    return (
        f'<section id="strangers"><h2>Unlike all classes <span class="soft">{n}</span></h2>'
        f'<p class="soft">{advice}{some}</p>{_grid(found, strangest, embedded)}</section>'
    )


def _grid(found: ClassifiedLibrary, chosen: Int[np.ndarray, " m"], embedded: _Embedded) -> str:
    tiles = []
    for i in chosen.tolist():
        e = int(embedded.at[i])
        sheet, place = divmod(e, ACROSS**2)
        row, column = divmod(place, ACROSS)
        p, d = float(found.probability[i]), float(found.answer.distance[i])
        name = found.model.classes[found.answer.label[i]]
        said = f"{found.library.table['particle'][i]}: {name}, probability {p:.2f}, distance {d:.2f}"
        rejected = "out" if found.answer.rejected[i] else ""
        position = f"{-_TILE * column}px {-_TILE * row}px"
        tiles.append(
            f'<button type="button" data-e="{e}" title="{escape(said, quote=True)}">'
            f'<span class="crop sheet{sheet}" style="background-position:{position}"></span>'
            f'<small class="{rejected}">{p:.2f} <i>d {d:.2f}</i></small></button>'
        )
    return f'<div class="grid">{"".join(tiles)}</div>'


def _histogram(found: ClassifiedLibrary, k: int, sizes: _Sizes) -> str:
    """Sizes of a class as inline SVG, on the axis that all classes share."""
    from matplotlib.ticker import MaxNLocator

    known = np.isfinite(sizes.values)
    own = sizes.values[known & (found.answer.label == k)]
    if not own.size:
        return ""
    top = float(np.percentile(sizes.values[known], 99.5)) * 1.15
    bins = int(np.clip(2 * np.sqrt(known.sum()), 8, 40))
    counts, edges = np.histogram(np.minimum(own, top), bins, (0, top))
    width, height, base = 420, 130, 96
    bars = "".join(
        f'<rect x="{width * a / top + 0.5:.1f}" y="{base - 84 * n / counts.max():.1f}" '
        f'width="{width / bins - 1:.1f}" height="{84 * n / counts.max():.1f}">'
        f"<title>{a:.3g} to {b:.3g} {sizes.unit}: {n}</title></rect>"
        for n, a, b in zip(counts, edges, edges[1:], strict=False)
        if n
    )
    ticks = "".join(
        f'<text x="{width * t / top:.1f}" y="{base + 15}" text-anchor="middle">{number_text(t)}</text>'
        for t in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(0, top)[1:]
        if t < 0.97 * top
    )
    middle = float(np.median(own))
    words = f"{counted(len(own), 'diameter')}, median {number_text(middle)} {sizes.unit}"
    at = width * min(middle, top) / top
    return (
        f'<svg class="histogram c{k}" viewBox="0 0 {width} {height}" role="img" aria-label="Sizes: {words}">'
        f'{bars}<line x1="0" x2="{width}" y1="{base}" y2="{base}"/>'
        f'<line class="median" x1="{at:.1f}" x2="{at:.1f}" y1="6" y2="{base}"/>{ticks}'
        f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle">{words} (dashed)</text></svg>'
    )


def _factors(found: ClassifiedLibrary, k: int) -> str:
    """The class as each factor, and its size, goes over the range of its members."""
    d = found.description
    if d is None:
        return ""
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
        words = f"{name}, {low:.2g} to {high:.2g}"
        rows.append(
            f'<figure class="strip"><figcaption>{words}</figcaption>'
            f'<img src="{strip(images)}" alt="{words}: {STEPS} images"></figure>'
        )
    if not rows:
        return ""
    return (
        '<h3>As one factor changes</h3><p class="soft small">From the 5th to the 95th percentile of its '
        f"members, all else typical.</p>{''.join(rows)}"
    )


def _data(found: ClassifiedLibrary, sizes: _Sizes, embedded: _Embedded, small: list[Thumbnail]) -> str:
    """What the page's script works on, as JSON that no tag can end."""
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
    data = {
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
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _micrograph(small: Thumbnail) -> dict[str, Any]:
    about: dict[str, Any] = {"name": small.record.source}
    p = small.picture
    if p is None:
        return about | {"missing": small.missing}
    address = "data:image/webp;base64," + base64.b64encode(p.data).decode()
    return about | {"width": p.width, "height": p.height, "scale": p.scale, "image": address}


def _short(value: float) -> float | None:
    """Four digits are enough for a page; JSON knows no NaN."""
    return float(f"{value:.4g}") if np.isfinite(value) else None
