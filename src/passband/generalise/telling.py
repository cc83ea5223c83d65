"""A study and how far it is, in words and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from passband.generalise.conditions import RARE, UNITS, Axes, shown
from passband.generalise.folder import open_study
from passband.generalise.run import StudyStatus
from passband.generalise.study import Study
from passband.words import counted, number_text

_NAMES = {
    "defocus_nm": "defocus",
    "cs_mm": "Cs",
    "focal_spread": "focal spread",
    "diameter_nm": "diameter",
    "astigmatism_nm": "astigmatism",
    "jitter_nm": "defocus more or less by up to",
    "cs_jitter_mm": "Cs more or less by up to",
    "focal_spread_jitter": "focal spread more or less by up to",
    "dose_factor": "dose more or less up to times",
}


def status_to_json(status: StudyStatus) -> str:
    """One JSON object with the fields of `StudyStatus`."""
    values: dict[str, Any] = asdict(status)
    values["folder"] = str(status.folder)
    values["errors"] = [{"run": run, "error": error} for run, error in status.errors]
    return json.dumps(values) + "\n"


def status_in_words(status: StudyStatus) -> str:
    """How far a study is, in a few lines."""
    parts = [f"{n} {word}" for word in ("failed", "running", "pending") if (n := getattr(status, word))]
    lines = [
        f"{status.name}: {status.done} of {counted(status.runs, 'network')} done"
        + "".join(f", {part}" for part in parts),
        f"{status.rows} of {counted(status.wanted_rows, 'row')}",
    ]
    if status.done:
        mean = status.seconds / status.done
        lines.append(f"a network takes {number_text(mean)} s")
        if status.pending + status.running:
            hours = mean * (status.pending + status.running) / 3600
            lines.append(f"what is left takes about {number_text(hours)} hours of one core")
    lines += [f"failed {run}: {error}" for run, error in status.errors]
    if status.failed > len(status.errors):
        lines.append(f"and {status.failed - len(status.errors)} more failed")
    if status.failed:
        lines.append("`passband study run FILE --out DIR --retry-failed` tries them again")
    return "\n".join(lines)


def study_to_json(folder: str | Path) -> str:
    """All values of the study in a folder, with how many networks and rows they make."""
    begun = open_study(folder)
    study = begun.study
    counts = {"runs": study.run_count, "rows": study.run_count * len(study.test), "made_by": begun.made_by}
    return json.dumps({**study.values(), **counts}) + "\n"


def study_in_words(study: Study) -> str:
    """What a study is, in a few lines."""
    of, scenes = study.training, study.structures
    simulated = not all(all(axes.dataset) for axes in (study.train, study.test))
    each = f", {scenes.test_images} drawn for each condition" if scenes.test_images else ""
    made = (
        f"{counted(scenes.scenes, 'scene')} of {number_text(scenes.field_nm)} nm, {scenes.test_scenes} "
        f"of them to test on{each}; {_range_words(scenes.particles)} particles "
        f"on {_range_words(scenes.thickness_nm)} nm of carbon"
    )
    return "\n".join(
        [
            f"{study.name}: {counted(study.run_count, 'network')}, each tested under "
            f"{counted(len(study.test), 'condition')}",
            f"trained under {_axes_words(study.train)}",
            f"tested under {_axes_words(study.test)}",
            f"{counted(study.seeds, 'network')} for each training condition, which differ in their seed",
            f"network {' and '.join(study.networks)}, {counted(of.steps, 'step')} on crops of "
            f"{of.crop} pixels of {number_text(of.pixel_size)} Å, {number_text(of.energy_kev)} keV",
            *([] if study.evidence else ["rows tell no evidence, and no score is predicted"]),
            *(f"dataset {name}: {folder}" for name, folder in study.datasets),
            *([made] if simulated else []),
        ]
    )


def _axes_words(axes: Axes) -> str:
    wanted = (*axes.rare, "jitter_nm")
    told = {f.name: getattr(axes, f.name) for f in fields(axes) if f.name not in RARE or f.name in wanted}
    return ", ".join(_axis_words(name, values) for name, values in told.items() if values[0] not in ((), ""))


def _axis_words(name: str, values: tuple[Any, ...]) -> str:
    listed = [shown(v) for v in values]
    if len(listed) > 12:
        listed = [*listed[:5], f"... ({len(listed)} values) ...", listed[-1]]
    return " ".join(filter(None, (_NAMES.get(name, name), " ".join(listed), UNITS.get(name, ""))))


def _range_words(pair: tuple[float, float]) -> str:
    low, high = map(number_text, pair)
    return low if low == high else f"{low} to {high}"
