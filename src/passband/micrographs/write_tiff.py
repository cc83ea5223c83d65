"""Micrographs written so that ImageJ, and every reader here, knows their pixel size."""

from __future__ import annotations

import io

import numpy as np

from passband.micrographs.picture import INSTRUMENT
from passband.units import NM

SIMULATED = "simulated by Passband"
"""The instrument of what no microscope took."""


def imagej_tiff(pixels: np.ndarray, pixel_size: float, *, instrument: str = SIMULATED) -> bytes:
    """A TIFF with its pixel size as ImageJ writes it, and the name of its instrument in the image's Info.

    Parameters
    ----------
    pixels
        (y, x), uint8, uint16 or float32.
    pixel_size
        Å.
    instrument
        What took it.

    Returns
    -------
    bytes
        The file's content.

    Examples
    --------
    >>> imagej_tiff(np.zeros((4, 6), np.uint16), 2.0)[:2] in (b"II", b"MM")
    True
    """
    import tifffile

    per_nm = NM / pixel_size
    content = io.BytesIO()
    metadata = {"unit": "nm", "axes": "YX", "Info": f"{INSTRUMENT} = {instrument}"}
    tifffile.imwrite(content, pixels, imagej=True, resolution=(per_nm, per_nm), metadata=metadata)
    return content.getvalue()
