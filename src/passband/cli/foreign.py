"""Options of every command that reads another's detections or annotations, and how its notes are printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from passband.detections.given import DetectionsFile
    from passband.detections.labelled import Labelled
    from passband.micrographs.many import Reading

ImageListOption = Annotated[
    Path | None,
    typer.Option("--image-list", help="COCO file that says which image each number of a results file means."),
]
ScoreThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--score-threshold",
        min=0,
        max=1,
        help="Take of the detections given those that score at least this.",
        show_default="all",
    ),
]
CategoryOption = Annotated[
    list[str] | None,
    typer.Option(
        "--category",
        help="Take of the objects given those of this class; may be given again.",
        show_default="all",
    ),
]
StrictOption = Annotated[
    bool,
    typer.Option("--strict", help="Refuse given objects that would be clipped, mended or left out."),
]


def detections_file(
    path: Path | None,
    image_list: Path | None,
    score_threshold: float | None,
    category: Sequence[str] | None,
    strict: bool,
) -> DetectionsFile | None:
    """The file that the options name, or None where they name none.

    Raises
    ------
    ParameterError
        If there are options for a file, and no file.
    """
    from passband.detections.given import DetectionsFile
    from passband.errors import ParameterError

    if path is None:
        if image_list is not None or score_threshold is not None or category or strict:
            raise ParameterError(
                "--image-list, --score-threshold, --category and --strict say how --detections are read; "
                "give --detections too"
            )
        return None
    return DetectionsFile(
        path=path,
        image_list=image_list,
        score_threshold=score_threshold,
        categories=tuple(category or ()),
        strict=strict,
    )


def labelled_images(
    images: list[str],
    annotations: Path,
    detections: DetectionsFile | None,
    category: Sequence[str] | None,
    strict: bool,
    reading: Reading,
) -> Labelled:
    """Labelled micrographs as the options name them."""
    from passband.detections.given import DetectionsFile
    from passband.detections.labelled import Labelled

    return Labelled(
        images=images,
        annotations=DetectionsFile(path=annotations, categories=tuple(category or ()), strict=strict),
        detections=detections,
        reading=reading,
    )


def print_notes(notes: Sequence[str]) -> None:
    """Each note as a line on stderr."""
    for note in notes:
        typer.echo(f"passband: {note}", err=True)
