"""Every error that Passband raises on purpose.

::

    PassbandError            catch this one to catch them all
    ├── ReadError            a file gives no micrograph
    ├── DetectionsError      a detection file or value cannot be used
    ├── BundleError          a model bundle cannot be used
    ├── CalibrationError     a calibration cannot be made or does not fit
    ├── DatasetError         a simulated dataset, a library or a study cannot be used or gone on with
    ├── TrainingError        a network cannot be trained: its loss is no number any more
    └── ParameterError       an argument is outside what physics or the method allows

and CoarseSamplingWarning, a warning: a wave is sampled too coarsely for its image to be right.

A message says what came, what was wanted and what to do about it.
"""

from __future__ import annotations


class PassbandError(Exception):
    """Root of all errors that Passband raises on purpose."""


class ReadError(PassbandError):
    """A file gives no micrograph: it is missing, damaged, too large or holds something else.

    Of a stack of which no frame was asked for, ``frames`` is how many it holds.
    """

    frames = 0


class DetectionsError(PassbandError):
    """Detections cannot be used; the message names every fault found."""


class BundleError(PassbandError):
    """A model bundle is damaged, of a newer format, or does not fit its use."""


class CalibrationError(PassbandError):
    """A calibration cannot be made from these rows, or does not fit these detections."""


class DatasetError(PassbandError):
    """A simulated dataset or a library of particles is missing, damaged, of a newer format or of another use.

    A dataset may also be unfinished, a library lack particles or labels, and a study be edited.
    """


class TrainingError(PassbandError):
    """A training came to nothing; the message says at which step and what to change."""


class ParameterError(PassbandError, ValueError):
    """An argument is outside what the physics or the method allows."""


class CoarseSamplingWarning(UserWarning):
    """A wave is sampled too coarsely for its image on the particle to be within 2 % of the converged one."""
