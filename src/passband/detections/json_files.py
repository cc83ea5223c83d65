"""JSON of strangers: read within a limit, and told by what it holds."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from passband.detections.numbers import shown
from passband.errors import DetectionsError

MAX_BYTES = 2**29
"""The most bytes of an annotation file; COCO's own largest has 470 MB."""


# Keys of documents that are not read, and what their tool can write instead.
_INSTEAD = {
    "shapes": ", as LabelMe writes: convert it to COCO with labelme2coco",
    "_via_img_metadata": ", as VIA writes: export its annotations as COCO",
    "regions": ", as VIA writes: export its annotations as COCO",
}


def load_json(path: Path) -> Any:
    """Parse a JSON file, or raise a `DetectionsError`; the last one is kept for a second look."""
    try:
        about = path.stat()
        if about.st_size > MAX_BYTES:
            words = f"has {about.st_size:,} bytes, more than the {MAX_BYTES:,} that are read"
            raise DetectionsError(f"{path} {words}; split it")
        return _parsed(path, about.st_size, about.st_mtime_ns)
    except OSError as error:
        raise DetectionsError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DetectionsError(f"{path} is not JSON: {error}; wanted a COCO file") from error


def forget_json() -> None:
    """Let go of the document that is kept."""
    _parsed.cache_clear()


@lru_cache(maxsize=1)
def _parsed(path: Path, size: int, changed: int) -> Any:
    return json.loads(path.read_text(encoding="utf-8-sig"))


def outline_of(document: object) -> str:
    """Say what a JSON document is, in a few words."""
    if isinstance(document, dict):
        instead = next((words for key, words in _INSTEAD.items() if key in document), "")
        return f"an object with {', '.join(map(repr, list(document)[:8])) or 'nothing'}{instead}"
    return f"a list of {len(document)}" if isinstance(document, list) else shown(document)
