"""What is deployed: a detector's weights and everything needed to use them honestly, in one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from passband.detectors.config import DetectorConfig
from passband.detectors.unet import UNetConfig
from passband.errors import BundleError, CalibrationError
from passband.estimate.look import Look, look_parts, open_look
from passband.estimate.records import CalibrationRecord, calibration_parts, open_calibration
from passband.store.tensors import Sealed, read_sealed, write_sealed

_Model = TypeVar("_Model", bound=nn.Module)

SHIPPED = Path(__file__).parents[1] / "bundles" / "cavities-slim.safetensors"
"""The bundle that comes with the package."""
SHIPPED_NAMES = {"cavities": SHIPPED, "hrtem": SHIPPED.with_name("hrtem-generalist.safetensors")}
"""Bundles that come with the package: cavities in metals, and particles in HRTEM."""


_OTHERS = {
    "particles": "a bundle that classifies particles; wanted a detector. Use `passband particles` or "
    "`passband rvae classify` with it",
    "own detector": "a calibration of somebody's own detector, without a network; wanted a network. Use "
    "`passband assess --detections` with it",
}
"""What to do with bundles of other kinds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """A detector with its weights, score threshold, training conditions and calibration.

    Two bundles are equal only if they are the same object; compare digests to compare files.

    Parameters
    ----------
    name
        What people call it.
    detector
        The network's configuration.
    weights
        Its state, float32.
    score_threshold
        Detections below it are not reported, and the calibration was made without them.
    training
        JSON values: what it was trained on. "pixel_size" holds [low, high] in Å, "domains" names.
    calibration
        The estimator fitted on this detector's output, or None.
    look
        What its network saw in the images that the calibration knows, or None.
    digest
        SHA-256 of the file it was read from; empty if it was not.

    Raises
    ------
    BundleError
        If the score threshold is not in (0, 1).
    """

    name: str
    detector: DetectorConfig | UNetConfig
    weights: Mapping[str, Tensor]
    score_threshold: float
    training: Mapping[str, Any] = field(default_factory=dict)
    calibration: CalibrationRecord | None = None
    look: Look | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.score_threshold < 1:
            raise BundleError(f"score threshold must lie in (0, 1), got {self.score_threshold}")


def write_bundle(bundle: Bundle, path: str | Path) -> str:
    """Write a bundle to one file, whole or not at all.

    Parameters
    ----------
    bundle
        What to write; floating weights are stored as float16, integers as they are.
    path
        Of the file; an existing one is replaced once the new one is complete.

    Returns
    -------
    str
        The file's digest.

    Raises
    ------
    PassbandError
        If the file cannot be written.
    """
    tensors = {f"weights.{k}": _stored(v) for k, v in bundle.weights.items()}
    settings, arrays = calibration_parts(bundle.calibration)
    arrays |= {f"look.{name}": torch.from_numpy(v) for name, v in look_parts(bundle.look).items()}
    header = {
        "name": bundle.name,
        "detector": bundle.detector.to_dict(),
        "score_threshold": bundle.score_threshold,
        "training": dict(bundle.training),
        "calibration": settings,
    }
    return write_sealed(header, tensors | arrays, path)


def read_bundle(path: str | Path) -> Bundle:
    """Read a bundle; no code of the file is run.

    Parameters
    ----------
    path
        A file that `write_bundle` wrote.

    Returns
    -------
    Bundle
        With its digest.

    Raises
    ------
    BundleError
        If the file is missing, damaged, of a newer format, or no bundle.
    """
    return open_bundle(read_sealed(path))


def open_bundle(sealed: Sealed) -> Bundle:
    """The bundle of a file that was read; as `read_bundle`."""
    path, header = sealed.path, sealed.header
    if sealed.kind != "detector":
        raise BundleError(f"{path}: {_OTHERS.get(sealed.kind, f'a bundle of {sealed.kind!r}')}")
    try:
        return Bundle(
            name=str(header["name"]),
            detector=_config(header["detector"]),
            weights={k: _working(v) for k, v in sealed.under("weights.").items()},
            score_threshold=float(header["score_threshold"]),
            training=header["training"],
            calibration=open_calibration(sealed),
            look=open_look({name: v.numpy() for name, v in sealed.under("look.").items()}),
            digest=sealed.digest,
        )
    except CalibrationError as e:
        raise BundleError(f"{path}: {e}") from e
    except (KeyError, TypeError, ValueError) as e:
        raise BundleError(f"{path}: a bundle whose settings cannot be understood: {e!r}") from e


@lru_cache(maxsize=1)
def default_bundle() -> Bundle:
    """The bundle that comes with the package: cavities in metals, on simulated micrographs.

    Raises
    ------
    BundleError
        If the installation lacks it.

    Examples
    --------
    >>> default_bundle().name
    'cavities-slim'
    """
    return read_bundle(SHIPPED)


def load_weights(model: _Model, bundle: Bundle) -> _Model:
    """Give a network the weights of a bundle.

    Raises
    ------
    BundleError
        If they do not fit it.
    """
    try:
        model.load_state_dict(dict(bundle.weights))
    except RuntimeError as e:
        raise BundleError(f"bundle {bundle.name!r}: weights do not fit its configuration: {e}") from e
    return model


def named_bundle(name: str | Path) -> Bundle:
    """A bundle that ships, by its name, or that of a file.

    Parameters
    ----------
    name
        One of `SHIPPED_NAMES`, or a path.

    Raises
    ------
    BundleError
        If there is no such file, or it is no bundle.

    Examples
    --------
    >>> named_bundle("cavities").name
    'cavities-slim'
    """
    return read_bundle(bundle_file(name))


def bundle_file(name: str | Path) -> Path:
    """Where a bundle is that is named by one of `SHIPPED_NAMES`, or by its path.

    Examples
    --------
    >>> bundle_file("hrtem").name, bundle_file("mine.safetensors").name
    ('hrtem-generalist.safetensors', 'mine.safetensors')
    """
    return SHIPPED_NAMES.get(str(name), Path(name))


def _config(values: Mapping[str, Any]) -> DetectorConfig | UNetConfig:
    return (UNetConfig if "widths" in values else DetectorConfig).from_dict(values)


def _stored(value: Tensor) -> Tensor:
    value = value.detach().cpu()
    return (value.half() if value.is_floating_point() else value).contiguous()


def _working(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
