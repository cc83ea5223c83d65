"""What a segmenter's own answers tell without labels."""

from __future__ import annotations

import pytest
import torch

from passband.detectors.evidence import (
    EVIDENCE,
    agreements,
    answers,
    dice,
    evidence,
    familiar,
    frechet,
    log_rings,
)
from passband.detectors.unet import NETWORKS, UNet


class Threshold(UNet):
    """Finds what is bright, however it is looked at."""

    def __init__(self, gain: float = 20.0) -> None:
        super().__init__(NETWORKS["tiny"])
        self.gain = gain

    def forward(self, images):
        self.down[-1](torch.zeros(len(images), 16, 2, 2))
        return self.gain * (images - 1.2)


def discs(count: int, contrast: float, *, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    images = torch.stack([((y - 32) ** 2 + (x - 32) ** 2 < (10 + i) ** 2).float() for i in range(count)])
    images = contrast * images + torch.randn(images.shape, generator=rng)
    images = (images - images.mean((1, 2), keepdim=True)) / images.std((1, 2), keepdim=True)
    return images[:, None]


def told(model: UNet, images: torch.Tensor) -> dict[str, torch.Tensor]:
    said = answers(model, images)
    return evidence(model, images, said, familiar(images, said))


def test_a_network_that_sees_its_objects_clearly_agrees_with_itself() -> None:
    clear, faint = (told(Threshold(), discs(6, contrast)) for contrast in (30.0, 0.5))
    for name in ("agree_noise", "agree_scale", "smooth_9"):
        assert clear[name].mean() > 0.9 > faint[name].mean() + 0.1
    assert clear["confidence"].mean() > faint["confidence"].mean()


def test_a_network_that_takes_the_background_for_objects_on_the_negative_is_found_out() -> None:
    assert told(Threshold(), discs(4, 30.0))["agree_negative"].max() < 0.1


def test_an_answer_is_turned_back_and_brought_to_its_pixels_before_it_is_compared() -> None:
    logits = torch.full((1, 1, 40, 64), -1.0)
    logits[..., 8:24, 12:20] = 1.0
    others = {"turn": torch.rot90(logits, 1, (2, 3)), "scale": logits[..., ::2, ::2], "noise": logits}
    told = agreements(logits, others.items())
    assert told["agree_turn"].item() == told["agree_noise"].item() == 1.0
    assert told["agree_scale"].item() > 0.9
    assert agreements(logits, [("turn", torch.rot90(logits, -1, (2, 3)))])["agree_turn"].item() < 1


def test_crumbs_and_ragged_outlines_are_told_from_a_compact_object() -> None:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = torch.where((y - 32) ** 2 + (x - 32) ** 2 < 400, 1.0, -1.0)[None, None]
    crumbs = torch.where(
        torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) < 0.3, 1.0, -1.0
    )
    even, ragged = agreements(disc, []), agreements(crumbs, [])
    assert even["smooth_9"] > 0.97 and ragged["smooth_9"] < 0.1
    assert even["smooth_21"] > 0.9 and ragged["smooth_21"] < 0.1
    assert even["edge"] < ragged["edge"] / 4
    # A disc of radius 20 is crossed twice by each of its about 40 rows and 40 columns.
    assert even["edge"].item() == pytest.approx(4 * 39 / (64 * 63), rel=0.05)


def test_evidence_of_the_first_image_is_that_of_the_image_alone() -> None:
    model, images = UNet(NETWORKS["tiny"]).eval(), discs(5, 3.0)
    known = familiar(images, answers(model, images))
    together = evidence(model, images, answers(model, images), known)
    assert tuple(together) == EVIDENCE and all(v.shape == (5,) for v in together.values())
    one = evidence(model, images[:1], answers(model, images[:1]), known)
    for name in EVIDENCE:
        assert one[name][0].item() == pytest.approx(together[name][0].item(), abs=1e-5)


def test_no_hook_is_left_on_the_network() -> None:
    model = UNet(NETWORKS["tiny"]).eval()
    told(model, discs(2, 3.0))
    assert not model.down[-1]._forward_hooks


def test_other_images_are_farther_than_ones_own() -> None:
    model, own, others = UNet(NETWORKS["tiny"]).eval(), discs(8, 3.0), discs(8, 3.0, seed=1)
    blurred = torch.nn.functional.avg_pool2d(others, 5, 1, 2)
    known = familiar(own, answers(model, own))
    near, far = (evidence(model, i, answers(model, i), known) for i in (others, blurred))
    assert far["spectrum_distance"].mean() > 3 * near["spectrum_distance"].mean()
    assert far["feature_distance"].mean() > near["feature_distance"].mean()
    assert frechet(answers(model, blurred), known) > frechet(answers(model, others), known)


def test_one_image_has_evidence_too() -> None:
    model, image = UNet(NETWORKS["tiny"]).eval(), discs(1, 3.0)
    said = answers(model, image)
    known = familiar(image, said)
    assert all(v.isfinite().all() for v in evidence(model, image, said, known).values())
    assert frechet(said, known) == 0


def test_dice_of_masks() -> None:
    a = torch.tensor([[[[1, 1, 0, 0]]], [[[0, 0, 0, 0]]], [[[0, 0, 0, 0]]]])
    b = torch.tensor([[[[1, 0, 0, 0]]], [[[0, 0, 0, 0]]], [[[1, 0, 0, 0]]]])
    assert dice(a, b).tolist() == pytest.approx([2 / 3, 1, 0])


def test_rings_hold_the_power_of_white_noise_alike() -> None:
    rings = log_rings(torch.randn(40, 1, 64, 64, generator=torch.Generator().manual_seed(0))).exp().mean(0)
    assert rings[1:] == pytest.approx(torch.ones(11), abs=0.1)
