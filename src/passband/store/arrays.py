"""Zarr arrays in a store: described by sealed JSON, so that no byte of a ``zarr.json`` changes unseen.

What zarr says of an array is kept in a sealed file of the store, and ``zarr.json``, which any reader of
Zarr opens, is a copy of it: another byte in it is a fault, and it can be written anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from passband.errors import DatasetError
from passband.store.folders import write_file
from passband.store.sealed import first_line

if TYPE_CHECKING:
    import zarr

DESCRIPTION = "zarr.json"
Description = Mapping[str, Any]
"""What ``zarr.json`` says of an array: JSON values."""


def described(**settings: Any) -> Description:
    """What zarr says of an array made with these settings.

    Parameters
    ----------
    **settings
        Of `zarr.create_array`.

    Examples
    --------
    >>> described(shape=(3, 2), chunks=(1, 2), dtype="uint16")["data_type"]
    'uint16'
    """
    import zarr
    from zarr.storage import MemoryStore

    files: dict[str, Any] = {}
    zarr.create_array(MemoryStore(files), **settings)
    description: Description = json.loads(files[DESCRIPTION].to_bytes())
    return description


def description_text(description: Description) -> str:
    """Content of ``zarr.json``."""
    return json.dumps(description, indent=2)


def write_description(array: Path, description: Description) -> None:
    """Make ``zarr.json`` of an array's folder what it must be, or raise a `DatasetError`."""
    text = description_text(description)
    try:
        same = (array / DESCRIPTION).read_bytes() == text.encode()
    except OSError:
        same = False
    if not same:
        write_file(array / DESCRIPTION, text)


def refuse_other_description(array: Path, description: Description, *, cure: str) -> None:
    """Raise a `DatasetError` where ``zarr.json`` is not to the byte what it must be."""
    path = array / DESCRIPTION
    try:
        content = path.read_bytes()
    except OSError as e:
        raise DatasetError(f"{path} is missing or damaged ({e.strerror or e}); {cure}") from e
    if content != description_text(description).encode():
        raise DatasetError(f"{path} was cut or edited: it is not what was written; {cure}")


def open_zarr(array: Path, *, cure: str) -> zarr.Array[Any]:
    """An array, to read.

    Raises
    ------
    DatasetError
        If its description is missing or damaged.
    """
    import zarr
    from zarr.storage import LocalStore, StorePath

    try:
        # As `zarr.open_array` does, which takes four times as long to look for arrays of other formats.
        content = json.loads((array / DESCRIPTION).read_bytes())
        return zarr.Array.from_dict(StorePath(LocalStore(array, read_only=True)), content)
    except Exception as e:  # zarr raises whatever a damaged description leads to
        raise DatasetError(f"{array / DESCRIPTION} is missing or damaged ({first_line(e)}); {cure}") from e


def with_items(array: zarr.Array[Any], n: int) -> zarr.Array[Any]:
    """The array as if it had n items, its description on disk left as it is."""
    import zarr

    metadata = array.metadata.update_shape((n, *array.shape[1:]))
    return zarr.Array(zarr.AsyncArray(metadata=metadata, store_path=array.store_path))
