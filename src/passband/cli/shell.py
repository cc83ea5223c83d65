"""What every command shares: errors as one line, progress, and options that come again."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from passband.errors import CoarseSamplingWarning, ParameterError, PassbandError

if TYPE_CHECKING:  # heavy modules are imported where they are used: help must come at once
    from passband.detectors.bundle import Bundle
    from passband.kinds import AnyBundle
    from passband.micrographs.many import Reading


class Commands(TyperGroup):
    """Turns every error into one line on stderr and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; what it raises, and what it warns of, becomes one line on stderr.

        Where JSON was asked for, an error is printed as a JSON object too.
        """
        words = [*getattr(ctx, "_protected_args", ()), *ctx.args]

        def stop(message: str, status: int) -> None:
            _print_json(words, message)
            _stop(message, status)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("once", CoarseSamplingWarning)
                before = warnings.showwarning
                warnings.showwarning = lambda message, *where: _show_warning(message, before, where)
                return super().invoke(ctx)
        except PassbandError as e:
            stop(str(e), 2)
        except BrokenPipeError:
            raise
        except OSError as e:
            stop(f"{e.filename or 'a file'}: {e.strerror or e}", 2)
        except KeyboardInterrupt:
            kept = "what is finished is kept where --report or --out was given"
            _stop(f"interrupted; {kept}: run the same command again to go on", 130)
        except Exception as e:
            usage = isinstance(e, typer.Abort) or hasattr(e, "exit_code")  # Typer's own, shown by Typer
            if hasattr(e, "format_message"):  # a wrong call; not a command that ended with a status
                _print_json(words, e.format_message())
            if usage or os.environ.get("PASSBAND_TRACEBACK"):
                raise
            wanted = "please report it with what it prints under PASSBAND_TRACEBACK=1"
            stop(f"unexpected {type(e).__name__}: {e}; this is a fault in Passband, {wanted}", 1)


def _show_warning(message: Any, before: Callable[..., None], where: tuple[Any, ...]) -> None:
    if isinstance(message, CoarseSamplingWarning):
        typer.echo(f"passband: {message}", err=True)
    else:
        before(message, *where)


# What a document holds beside its errors.
_BESIDE: dict[str, dict[str, Any]] = {
    "assess": {"schema": 1, "micrographs": []},
    "segment": {"images": []},
}


def _print_json(words: list[str], message: str) -> None:
    """The error as a JSON object on stdout, if a command's words ask for JSON: a pipe always gets one."""
    if "--json" in words:
        errors = [{"path": "", "error": message}]
        typer.echo(json.dumps({**_BESIDE.get(words[0], {}), "errors": errors, "notes": []}))


def _stop(message: str, status: int) -> None:
    typer.echo(f"passband: {message}", err=True)
    raise typer.Exit(status)


SHIPPED_BUNDLES = ("cavities", "hrtem")
"""By name; what reads them is slow to load."""


class Device(StrEnum):
    """Where networks and their images are calculated."""

    cpu = "cpu"
    cuda = "cuda"


DeviceOption = Annotated[Device, typer.Option(help="Where to train: cuda is an NVIDIA GPU.")]
BundleOption = Annotated[
    Path | None,
    typer.Option(
        "--bundle", help="Detector and calibration: a file, cavities or hrtem; cavities if not given."
    ),
]
SidecarOption = Annotated[
    Path | None,
    typer.Option("--sidecar", help="CSV with a column of file names and one of pixel sizes (nm/pixel)."),
]

PixelSizeOption = Annotated[float | None, typer.Option(help="nm per pixel, in place of what the files say.")]

FrameOption = Annotated[
    str | None, typer.Option("--frame", help="Which image of a stack, from 0; or mean, of all of them.")
]

FramesOption = Annotated[
    str | None,
    typer.Option("--frame", help="Which image of a stack, from 0; or mean, of all; or all, each by itself."),
]

PermissiveOption = Annotated[
    bool,
    typer.Option(
        "--permissive",
        help="Read also what is damaged or wrongly named, as far as it makes sense, and say what was done.",
    ),
]

InstrumentOption = Annotated[
    str,
    typer.Option(
        help="The microscope's name, in place of what the files say: images of an instrument that was "
        "calibrated are told more narrowly.",
        show_default="as the files say",
    ),
]

ThicknessOption = Annotated[float | None, typer.Option(help="Foil thickness in nm, for the swelling.")]

SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        help="Workers elsewhere that see the same files: address of a Dask scheduler (tcp://host:8786), or a "
        "batch system, whose jobs they are (slurm:queue=short,memory=4GB,walltime=01:00:00; pbs:, lsf:).",
    ),
]


def bundle_of_any_kind(path: Path | None) -> AnyBundle:
    """The bundle of a file, of whichever kind, or the one that ships."""
    from passband.detectors.bundle import bundle_file, default_bundle
    from passband.kinds import read_any

    return default_bundle() if path is None else read_any(bundle_file(path))


def bundle_from(path: Path | None) -> Bundle:
    """The bundle of a file, or the one that ships."""
    from passband.detectors.bundle import default_bundle, named_bundle

    return default_bundle() if path is None else named_bundle(path)


def reading_of(
    pixel_size_nm: float | None,
    sidecar: Path | None,
    frame: str | None,
    permissive: bool,
    *,
    defocus_nm: float | None = None,
    instrument: str = "",
    each: bool = False,
) -> Reading:
    """How micrographs are read, as the options say; ``each``: where --frame may be all."""
    from passband.micrographs.many import Reading, frame_from_text
    from passband.micrographs.readers import read_sidecar

    return Reading(
        pixel_size=angstrom(pixel_size_nm),
        sidecar={} if sidecar is None else read_sidecar(sidecar),
        frame=None if frame is None else frame_from_text(frame, each=each),
        permissive=permissive,
        defocus=signed_angstrom(defocus_nm),
        instrument=instrument,
    )


def angstrom(nm: float | None) -> float | None:
    """Nanometres in Å; None stays None.

    Raises
    ------
    ParameterError
        If it is no length.
    """
    from passband.units import NM

    if nm is not None and not 0 < nm < float("inf"):
        raise ParameterError(f"a length must be a positive number of nm, got {nm:g} nm")
    return None if nm is None else nm * NM


def signed_angstrom(nm: float | None) -> float | None:
    """Nanometres of either sign in Å; None stays None.

    Raises
    ------
    ParameterError
        If it is no finite number.
    """
    from math import isfinite

    from passband.units import NM

    if nm is not None and not isfinite(nm):
        raise ParameterError(f"a defocus must be a finite number of nm, got {nm:g} nm")
    return None if nm is None else nm * NM


@contextmanager
def show_progress(what: str) -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar on stderr, where a person looks at it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(now: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=f"{what} {now}".replace("[", r"\["))

        yield show


@contextmanager
def progress_or_log(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar where a person looks; a line on stderr every minute where a log is kept."""
    with show_progress(what) as bar:
        begun = last = time.monotonic()
        first, before = -1, (0, 0)

        def log(now: str, done: int, total: int) -> None:
            nonlocal first, last, begun, before
            t = time.monotonic()
            if first < 0 or total != before[1] or done < before[0]:  # something else is counted now
                first, begun = done, t
            before = done, total
            if t - last >= 60:
                last = t
                doing = f"{what}, {now}" if now else what
                left = ""
                if done > first:
                    minutes = (t - begun) / (done - first) * (total - done) / 60
                    left = f", about {minutes:.0f} min left"
                typer.echo(f"{doing}: {done} of {total}{left}", err=True)
                sys.stderr.flush()

        yield bar or log
