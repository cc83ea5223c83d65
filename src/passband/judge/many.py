"""Many micrograph files to verdicts and a report: found, read, judged, and resumed after a stop.

One bad file does not stop the others; it ends up among the errors.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from passband import __version__
from passband.detections.detections import Detections
from passband.detections.files import read_detections
from passband.detectors.bundle import Bundle
from passband.detectors.infer import detect
from passband.errors import CalibrationError, DetectionsError, ParameterError, PassbandError, ReadError
from passband.estimate.intervals import MIN_DOMAIN_ROWS
from passband.estimate.performance import MOST_LABELLED
from passband.estimate.records import from_record
from passband.judge.calibrate import adapt_bundle, calibrate_bundle, calibration_row
from passband.judge.parts import load_part, save_part
from passband.judge.policy import DEFAULT_POLICY, Policy
from passband.judge.report import Sheet, picture_of, write_report
from passband.judge.verdict import Verdict, assess
from passband.micrographs.micrograph import Micrograph
from passband.micrographs.readers import SUFFIXES, read_micrograph
from passband.micrographs.sidecar import sidecar_pixel_size
from passband.particles.model import ParticleModel
from passband.store.files import write_whole

Progress = Callable[[str, int, int], None]
"""Called with the path begun, how many are done, and how many there are."""
Errors = tuple[tuple[str, str], ...]
"""Pairs of a path and what was wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How each micrograph is read and judged.

    Parameters
    ----------
    bundle
        Detector and calibration, or a classifier of particles.
    policy
        Thresholds of the verdict.
    frame
        Which image of a stack, from 0, or None.
    pixel_size
        Å, in place of what the files say, or None.
    sidecar
        Pixel sizes in Å by file name, in place of what the files say.
    thickness
        Of the foil in Å, or None.
    detections
        File of another detector's detections, to be judged instead of the bundle's, or None.
    """

    bundle: Bundle | ParticleModel
    policy: Policy = DEFAULT_POLICY
    frame: int | None = None
    pixel_size: float | None = None
    sidecar: Mapping[str, float] = field(default_factory=dict)
    thickness: float | None = None
    detections: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of many files.

    Parameters
    ----------
    verdicts
        In the order of the files.
    errors
        What could not be assessed, and why.
    reused
        How many verdicts were taken from an earlier run.
    page
        The report, or None where none was wanted or nothing was assessed.
    """

    verdicts: tuple[Verdict, ...]
    errors: Errors
    reused: int = 0
    page: Path | None = None


def find_micrographs(paths: Sequence[str]) -> tuple[tuple[str, ...], Errors]:
    """Expand folders and wildcards to files, each once.

    Parameters
    ----------
    paths
        Files, folders (their readable files, not those of folders within) and wildcards
        (``**`` for any folders).

    Returns
    -------
    files, errors
        Files in the order given, those of a folder or wildcard sorted by name; and each folder or
        wildcard that holds none.

    Examples
    --------
    >>> find_micrographs(["b.tif", "a.tif", "./b.tif"])
    (('b.tif', 'a.tif'), ())
    """
    files: dict[Path, str] = {}
    errors = []
    for path in paths:
        try:
            for file in _expanded(path):
                files.setdefault(Path(file).resolve(), file)
        except PassbandError as e:
            errors.append((path, str(e)))
    return tuple(files.values()), tuple(errors)


def assess_files(
    paths: Sequence[str], plan: Plan, *, report: Path | None = None, progress: Progress | None = None
) -> Outcome:
    """Assess many micrographs, and write a report of them.

    Parameters
    ----------
    paths
        Files, folders and wildcards.
    plan
        How to read and judge them.
    report
        Folder of the report. What is finished is kept in its folder ``parts``; a run with the same
        files, bundle and plan goes on from there.
    progress
        Called before each micrograph and at the end.

    Returns
    -------
    Outcome
        Verdicts of all that could be assessed.

    Raises
    ------
    PassbandError
        If the plan does not hold at all: a detection file that cannot be used, a report folder that
        cannot be written.
    """
    files, missing = find_micrographs(paths)
    if report is not None:
        _must_be_writable(report)
    given = None if plan.detections is None else _given_detections(files, plan)
    verdicts: list[Verdict] = []
    sheets: list[Sheet] = []
    errors, reused = list(missing), 0
    for done, path in enumerate(files):
        if progress:
            progress(path, done, len(files))
        try:
            part = None if report is None else report / "parts" / f"{_key(path, plan, given)}.json"
            # A bundle that is in no file has no digest to tell it from another.
            sheet = load_part(part, path) if part is not None and plan.bundle.digest else None
            if sheet is not None:
                reused += 1
            elif part is None:
                verdicts.append(_judge(path, plan, given)[1])
                continue
            else:
                micrograph, verdict = _judge(path, plan, given)
                sheet = Sheet(verdict=verdict, picture=picture_of(micrograph, verdict.detections))
                save_part(part, sheet)
            verdicts.append(sheet.verdict)
            sheets.append(sheet)
        except PassbandError as e:
            errors.append((path, _without_name(str(e), path)))
        except Exception as e:
            # A fault of Passband's own must not cost a night's work on the other files.
            errors.append((path, f"unexpected {type(e).__name__}: {e}; this is a fault in Passband"))
    if progress:
        progress("", len(files), len(files))
    page = None
    if report is not None and sheets:
        known = plan.bundle.calibration
        page = write_report(
            report,
            sheets,
            errors=errors,
            subtitle=_subtitle(plan),
            calibrated=None if known is None else from_record(known).held_out,
        )
    return Outcome(verdicts=tuple(verdicts), errors=tuple(errors), reused=reused, page=page)


def _judge(path: str, plan: Plan, given: Mapping[str, Detections] | None) -> tuple[Micrograph, Verdict]:
    micrograph = _read(path, plan)
    detections = None
    if given is not None:
        if path not in given:
            raise DetectionsError(f"{plan.detections} says nothing of this image; leave the image out")
        detections = given[path]
    verdict = assess(
        micrograph, plan.bundle, detections=detections, policy=plan.policy, thickness=plan.thickness
    )
    return micrograph, verdict


def _read(path: str, plan: Plan) -> Micrograph:
    micrograph = read_micrograph(path, frame=plan.frame, pixel_size=plan.pixel_size)
    listed = sidecar_pixel_size(plan.sidecar, path)
    if plan.pixel_size is None and listed is not None:
        return micrograph.calibrated(listed, "the sidecar table")
    return micrograph


def _given_detections(files: Sequence[str], plan: Plan) -> dict[str, Detections]:
    """Another detector's detections by path, cut where they go below the calibration's threshold."""
    assert plan.detections is not None
    shapes = {}
    for path in files:
        try:
            shapes[path] = _read(path, plan).shape
        except PassbandError:
            continue  # its error is told in its turn
    found = read_detections(plan.detections, images=shapes, skip_others=True)
    if shapes and not found:
        read_detections(plan.detections, images=shapes)  # says which images it speaks of instead
        raise DetectionsError(f"{plan.detections} speaks of none of the {len(shapes)} micrographs")
    threshold = plan.bundle.score_threshold if isinstance(plan.bundle, Bundle) else 0.0
    return {n: d.above(threshold) if d.score_threshold < threshold else d for n, d in found.items()}


def _key(path: str, plan: Plan, given: Mapping[str, Detections] | None) -> str:
    """Fingerprint of all that a part depends on, but for the micrograph's name."""
    try:
        with Path(path).open("rb") as f:
            content = hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        raise ReadError(f"cannot be read: {e.strerror or e}") from e
    depends = {
        "passband": __version__,
        "content": content,
        "suffix": Path(path).suffix.lower(),
        "bundle": plan.bundle.digest,
        "policy": asdict(plan.policy),
        "frame": plan.frame,
        "pixel_size": plan.pixel_size or sidecar_pixel_size(plan.sidecar, path),
        "thickness": plan.thickness,
    }
    digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode())
    if given is not None and path in given:
        d = given[path]
        digest.update(d.boxes_xyxy.tobytes() + d.scores.tobytes() + repr(d.score_threshold).encode())
        for mask in d.masks or ():
            digest.update(repr((mask.y, mask.x, mask.pixels.shape)).encode() + mask.pixels.tobytes())
    return digest.hexdigest()[:32]


def _expanded(path: str) -> Iterator[str]:
    """Files that a path stands for."""
    known = "can be read: " + " ".join(SUFFIXES)
    place = Path(path)
    try:
        if place.is_dir():
            inside = sorted(p for p in place.iterdir() if _readable(p))
            if not inside:
                raise ReadError(f"the folder holds no micrograph; {known}")
            yield from (str(p) for p in inside)
        elif not place.exists() and glob.has_magic(path):
            matched = sorted(p for p in glob.glob(path, recursive=True) if _readable(Path(p)))  # noqa: PTH207
            if not matched:
                raise ReadError(f"the pattern matches no micrograph; {known}")
            yield from matched
        else:
            yield path  # reading says what is wrong with it
    except OSError as e:
        raise ReadError(f"cannot be looked into: {e.strerror or e}") from e


def _readable(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _must_be_writable(report: Path) -> None:
    """Find out before hours of work, not after."""
    if report.exists() and not report.is_dir():
        raise ParameterError(f"{report} is a file; give a folder for the report")
    write_whole(report / "parts" / ".keep", "")


def _without_name(message: str, path: str) -> str:
    return message.removeprefix(path).removeprefix(":").lstrip()


def _subtitle(plan: Plan) -> str:
    b = plan.bundle
    words = f"Bundle {b.name} ({b.digest[:12] or 'not from a file'}), Passband {__version__}"
    return words if plan.detections is None else f"Detections of {plan.detections}. {words}"


def calibrate_files(
    images: Sequence[str],
    annotations: Path,
    bundle: Bundle,
    *,
    sidecar: Mapping[str, float] | None = None,
    anew: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Calibrate a bundle's estimates on labelled micrographs.

    A few images adapt the calibration that the bundle has to the domain that they are from. Where there
    are `MIN_DOMAIN_ROWS` and more from several folders, or more than can be adapted to, a new one is
    fitted to these images alone.

    Parameters
    ----------
    images
        Files, folders and wildcards; the images of one folder count as one domain.
    annotations
        COCO file, YOLO files or label images that say what is there.
    bundle
        Whose detector is run on the images.
    sidecar
        Pixel sizes in Å by file name.
    anew
        Fit a new calibration in any case.
    progress
        Called before each micrograph and at the end.

    Returns
    -------
    Bundle
        The same with a new or adapted calibration.

    Raises
    ------
    CalibrationError
        Naming every image that cannot be used, or if they are too few.
    DetectionsError
        If the annotations cannot be used.
    """
    files, missing = find_micrographs(images)
    plan = Plan(bundle=bundle, sidecar=sidecar or {})
    micrographs, faults = {}, [f"{path}: {words}" for path, words in missing]
    for path in files:
        try:
            micrographs[path] = _read(path, plan)
        except PassbandError as e:
            faults.append(str(e))
    shapes = {path: m.shape for path, m in micrographs.items()}
    truth = read_detections(annotations, images=shapes, skip_others=True)
    faults += [f"{path}: {annotations} says nothing of it" for path in shapes if path not in truth]
    if faults:
        raise CalibrationError(f"{len(faults)} images cannot be used: " + "; ".join(faults))
    rows = []
    for done, (path, micrograph) in enumerate(micrographs.items()):
        if progress:
            progress(path, done, len(files))
        domain = Path(path).resolve().parent.name
        rows.append(calibration_row(micrograph, detect(micrograph, bundle), truth[path], domain=domain))
    if progress:
        progress("", len(files), len(files))
    many = len(rows) > MOST_LABELLED or (len(rows) >= MIN_DOMAIN_ROWS and len({r.domain for r in rows}) > 1)
    known = None if bundle.calibration is None else from_record(bundle.calibration)
    if anew or many or known is None or not known.adaptable:
        return calibrate_bundle(bundle, rows)
    return adapt_bundle(bundle, rows)
