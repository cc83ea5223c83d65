"""The detector: torchvision's Mask R-CNN in two configurations of the same code, with outlines or without."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.ndimage
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection import (
    FasterRCNN,
    MaskRCNN,
    MaskRCNN_ResNet50_FPN_Weights,
    maskrcnn_resnet50_fpn,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from passband.detectors.config import DetectorConfig
from passband.types import Image

_LOCAL, _LOCAL_REACH = 20.0, 50
"""Deviation of the Gaussian of the local mean and spread, and where it ends, pixels."""


def build_detector(config: DetectorConfig, *, coco_weights: bool = False) -> FasterRCNN:
    """A Mask R-CNN, or without masks a Faster R-CNN, with fresh weights.

    Parameters
    ----------
    config
        `SLIM`, `PAPER`, or your own.
    coco_weights
        Start the resnet50 backbone and pyramid from torchvision's COCO weights; needs a network
        the first time.

    Returns
    -------
    torchvision.models.detection.FasterRCNN
        Or its `MaskRCNN`. It takes lists of (channels, y, x) tensors made by `detector_input`, and resizes
        nothing.

    Examples
    --------
    >>> from passband.detectors.config import SLIM
    >>> detector = build_detector(SLIM)
    >>> sum(p.numel() for p in detector.parameters()) < 2_600_000
    True
    """
    slim = config.backbone == "slim"
    channels = input_channels(config)
    backbone: nn.Module
    backbone = _SlimBackbone(channels) if slim else _resnet50_fpn(coco_weights)
    features: int = 64 if slim else 256
    levels = [str(i) for i in range(4)]
    outputs = 1 + max(1, len(config.classes))  # the first is nothing
    heads: dict[str, Any] = {}
    if slim and config.masks:
        heads["mask_head"] = MaskRCNNHeads(features, (48, 48), 1)
        heads["mask_predictor"] = MaskRCNNPredictor(48, 32, outputs)
    if slim:
        heads["box_head"] = _BoxHead(features * 49, 256)
        heads["box_predictor"] = FastRCNNPredictor(256, outputs)
    if config.masks:
        heads["mask_roi_pool"] = MultiScaleRoIAlign(levels, 14, 2)
    return (MaskRCNN if config.masks else FasterRCNN)(
        backbone,
        num_classes=None if slim else outputs,
        _skip_resize=True,
        image_mean=[0.0] * channels,
        image_std=[1.0] * channels,
        rpn_anchor_generator=AnchorGenerator(
            config.anchor_sizes, (config.aspect_ratios,) * len(config.anchor_sizes)
        ),
        rpn_bg_iou_thresh=config.rpn_iou[0],
        rpn_fg_iou_thresh=config.rpn_iou[1],
        rpn_pre_nms_top_n_train=1000,
        rpn_pre_nms_top_n_test=2 * config.proposals,
        rpn_post_nms_top_n_train=400 if slim else 2000,
        rpn_post_nms_top_n_test=config.proposals,
        rpn_batch_size_per_image=256,
        box_fg_iou_thresh=config.box_iou,
        box_bg_iou_thresh=config.box_iou,
        box_batch_size_per_image=128 if slim else 512,
        box_positive_fraction=0.2 if slim else 0.25,
        box_score_thresh=0.05,
        box_nms_thresh=0.4,
        box_detections_per_img=config.max_detections,
        box_roi_pool=MultiScaleRoIAlign(levels, 7, 2),
        **heads,
    )


def input_channels(config: DetectorConfig) -> int:
    """Channels that a configuration's network takes.

    Examples
    --------
    >>> from passband.detectors.config import PAPER, SLIM
    >>> input_channels(SLIM), input_channels(PAPER)
    (2, 3)
    """
    return 2 if config.backbone == "slim" else 3


def detector_input(pixels: Image, channels: int) -> Float[Tensor, "c y x"]:
    """A micrograph's pixels as the network sees them: free of gain and offset.

    Parameters
    ----------
    pixels
        float32 (y, x) in any unit.
    channels
        2: the image scaled by its own spread, and the image scaled by its local mean and
        spread, which keeps faint objects beside strong bend contours. 3: the first, thrice.

    Returns
    -------
    tensor
        float32 (channels, y, x), mostly within -4 to 4.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).normal(50, 3, (64, 64)).astype(np.float32)
    >>> bool(torch.allclose(detector_input(image, 2), detector_input(2 * image + 7, 2), atol=1e-3))
    True
    """
    return input_rows(pixels, channels, grey_levels(pixels), 0, pixels.shape[0])


def grey_levels(pixels: Image) -> tuple[float, float]:
    """Middle and spread (of a Gaussian of the same quantiles) of a micrograph's grey levels."""
    sample = pixels[:: max(1, pixels.shape[0] // 1024), :: max(1, pixels.shape[1] // 1024)]
    low, middle, high = (float(q) for q in np.percentile(sample, [5, 50, 95]))
    return middle, max((high - low) / 3.29, 1e-6 * max(1.0, abs(middle)))


def input_rows(
    pixels: Image, channels: int, levels: tuple[float, float], first: int, end: int
) -> Float[Tensor, "c rows x"]:
    """Some rows of what `detector_input` gives, so that a large image is never held as a whole.

    Parameters
    ----------
    pixels, channels
        As there.
    levels
        `grey_levels` of the whole.
    first, end
        The rows.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).normal(50, 3, (400, 64)).astype(np.float32)
    >>> some = input_rows(image, 2, grey_levels(image), 150, 220)
    >>> bool((some == detector_input(image, 2)[:, 150:220]).all())
    True
    """
    middle, spread = levels
    reach = 2 * _LOCAL_REACH if channels == 2 else 0
    top = max(0, first - reach)
    whole = pixels[top : min(pixels.shape[0], end + reach)] - np.float32(middle)
    whole /= np.float32(spread)
    np.clip(whole, -5, 5, out=whole)
    inside = np.s_[first - top : end - top]
    given = np.empty((channels, end - first, pixels.shape[1]), np.float32)
    given[:] = whole[inside]
    if channels == 2:
        mean = scipy.ndimage.gaussian_filter(whole, _LOCAL, radius=_LOCAL_REACH)
        square = whole - mean
        square *= square
        variance = scipy.ndimage.gaussian_filter(square, _LOCAL, radius=_LOCAL_REACH, output=square)[inside]
        given[1] -= mean[inside]
        given[1] /= np.sqrt(variance + np.float32(0.01))
        np.clip(given[1], -5, 5, out=given[1])
    return torch.from_numpy(given)


class _Block(nn.Module):
    """Two 3 x 3 convolutions with a shortcut, as in a basic residual network."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.relu(self.body(x) + self.shortcut(x))
        return out


class _SlimBackbone(nn.Module):
    """A small residual network and its feature pyramid at strides 4, 8, 16 and 32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (32, 64, 96, 128)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 24, 5, 2, 2, bias=False), nn.BatchNorm2d(24), nn.ReLU(inplace=True)
        )
        stages = []
        for inputs, outputs in zip((24, *widths[:-1]), widths, strict=True):
            stages.append(nn.Sequential(_Block(inputs, outputs, 2), _Block(outputs, outputs, 1)))
        self.stages = nn.ModuleList(stages)
        self.pyramid = FeaturePyramidNetwork(list(widths), 64)
        self.out_channels = 64

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        levels = {}
        for i, stage in enumerate(self.stages):
            x = stage(x)
            levels[str(i)] = x
        pyramid: dict[str, Tensor] = self.pyramid(levels)
        return pyramid


class _BoxHead(nn.Module):
    """Two fully connected layers on a pooled region."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def _resnet50_fpn(coco_weights: bool) -> nn.Module:
    """Torchvision's ResNet-50 with its pyramid, on COCO weights where asked for."""
    backbone: nn.Module
    if coco_weights:
        backbone = maskrcnn_resnet50_fpn(weights=MaskRCNN_ResNet50_FPN_Weights.COCO_V1).backbone
    else:
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=5)
    return backbone
