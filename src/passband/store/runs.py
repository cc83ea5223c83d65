"""Going on after a stop: what a result depends on, parts and checkpoints that are whole or not there, a log.

A run leaves behind whole files only. A part (one result of many: `store/parts.py`) that is damaged is made
anew; a checkpoint is gone on with where it is whole and of the same run, and otherwise refused in words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from passband.errors import BundleError, ParameterError
from passband.store.columns import rows_csv
from passband.store.files import write_whole
from passband.store.parts import differences
from passband.store.sealed import content_sha256
from passband.store.tensors import read_sealed, write_sealed

_CHECKPOINT = "checkpoint"
_DIFFERENCES = 6


class Checkpoint(NamedTuple):
    """What a run goes on with: where it was, and its tensors."""

    state: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin so, by the rest of their names."""
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


def arrays_sha256(*arrays: np.ndarray) -> str:
    """Checksum of several arrays: shapes, types and values.

    Examples
    --------
    >>> arrays_sha256(np.zeros(2), np.zeros(1)) == arrays_sha256(np.zeros(1), np.zeros(2))
    False
    """
    return hashlib.sha256("".join(map(content_sha256, arrays)).encode()).hexdigest()


def write_checkpoint(path: Path, depends: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Write all that a run goes on with, whole or not at all.

    Parameters
    ----------
    path
        An earlier one is replaced.
    depends
        JSON values that the run follows from.
    checkpoint
        Contiguous tensors of the processor's memory; a state of JSON values.

    Raises
    ------
    PassbandError
        If it cannot be written.
    """
    header = {"kind": _CHECKPOINT, "depends": depends, "state": checkpoint.state}
    write_sealed(header, checkpoint.tensors, path)


def read_checkpoint(path: Path, depends: Mapping[str, Any]) -> Checkpoint | None:
    """What `write_checkpoint` wrote.

    Parameters
    ----------
    path
        Where it may be.
    depends
        What this run follows from.

    Returns
    -------
    Checkpoint or None
        None where there is none.

    Raises
    ------
    ParameterError
        If it is damaged, or of a run that follows from other values, saying which.
    """
    if not path.exists():
        return None
    try:
        found = read_sealed(path)
        there, state = found.header["depends"], found.header["state"]
        if found.kind != _CHECKPOINT:
            raise KeyError(_CHECKPOINT)
    except BundleError as e:
        raise ParameterError(
            f"{path} cannot be gone on with: it is damaged, or another version of Passband wrote it; "
            "remove it to begin anew"
        ) from e
    except KeyError as e:
        raise ParameterError(f"{path} is no checkpoint, but a bundle; choose an empty folder") from e
    here = json.loads(json.dumps(depends))
    if there != here:
        listed = "; ".join(differences(there, here)[:_DIFFERENCES])
        raise ParameterError(
            f"{path} is of another configuration or of other data; choose an empty folder, or remove it. "
            f"What differs, there and here: {listed}"
        )
    return Checkpoint(state, found.tensors)


def write_log(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a run's log as a table, whole; without a row there is none.

    Parameters
    ----------
    path
        CSV for people; a run goes on from its checkpoint, which holds the rows too.
    rows
        All of one set of headings.

    Raises
    ------
    PassbandError
        If it cannot be written.
    """
    if not rows:
        path.unlink(missing_ok=True)
        return
    headings = list(rows[0])
    write_whole(path, rows_csv([headings, *([row[h] for h in headings] for row in rows)]))
