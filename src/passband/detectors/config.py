"""What a Mask R-CNN is built from: values alone, so that a bundle is read without loading torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from passband.errors import BundleError


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """What a Mask R-CNN is built from.

    Parameters
    ----------
    backbone
        "slim" (about 2 million weights, two input channels) or "resnet50" (torchvision's, three).
    anchor_sizes
        Side of the square-area anchors in pixels, one tuple for each of the pyramid's levels.
    aspect_ratios
        Of the anchors.
    rpn_iou, box_iou
        Background and foreground thresholds of IoU in the proposal and the box stage.
    max_detections
        Kept in one tile.
    proposals
        Kept in one tile after non-maximum suppression.
    objectness
        Least chance, by the proposal stage, that a proposal is an object; those of less are not looked at.
        Where it alone decides, and not ``proposals``, a tile of any size finds the same.
    classes
        Names of what is told apart; with none there is one class without a name.
    masks
        Whether objects are outlined: Mask R-CNN; else boxed alone: Faster R-CNN.
    """

    backbone: Literal["slim", "resnet50"] = "slim"
    anchor_sizes: tuple[tuple[int, ...], ...] = ((8, 13), (20, 32), (50, 76), (112, 170))
    aspect_ratios: tuple[float, ...] = (1.0,)
    rpn_iou: tuple[float, float] = (0.3, 0.6)
    box_iou: float = 0.5
    max_detections: int = 400
    proposals: int = 600
    objectness: float = 0.0
    classes: tuple[str, ...] = ()
    masks: bool = True

    @property
    def in_words(self) -> str:
        """What it is, for people."""
        return f"{'Mask' if self.masks else 'Faster'} R-CNN, {self.backbone}"

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> DetectorConfig:
        """The configuration that `to_dict` wrote.

        Raises
        ------
        BundleError
            If a key is unknown or the backbone is none of ours.
        """
        try:
            config = cls(
                **{
                    **d,
                    "anchor_sizes": tuple(tuple(int(s) for s in level) for level in d["anchor_sizes"]),
                    "aspect_ratios": tuple(float(r) for r in d["aspect_ratios"]),
                    "classes": tuple(str(name) for name in d.get("classes", ())),
                    "rpn_iou": (float(d["rpn_iou"][0]), float(d["rpn_iou"][1])),
                }
            )
        except (TypeError, KeyError, ValueError, IndexError) as e:
            raise BundleError(f"not a detector configuration of this version: {e!r}") from e
        if config.backbone not in ("slim", "resnet50"):
            raise BundleError(f"backbone must be 'slim' or 'resnet50', got {config.backbone!r}")
        return config


SLIM = DetectorConfig()
"""The shipped configuration: quick on one CPU core, weights under 10 MB."""

PAPER = DetectorConfig(
    backbone="resnet50",
    anchor_sizes=((4, 8, 16, 32, 64, 128, 256, 512),) * 5,
    aspect_ratios=(0.5, 1.0, 2.0),
    rpn_iou=(0.3, 0.7),
    box_iou=0.4,
    max_detections=1000,
    proposals=2000,
)
"""The paper's configuration: ResNet-50 FPN, anchors 4 to 512 at every level."""
