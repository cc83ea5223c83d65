"""Small sets of cards and of crops, and models fitted to them; the slow ones made once for all tests."""

from __future__ import annotations

import functools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from passband.particles.cards import Disorder, draw_cards, make_cards
from passband.particles.crop_sets import CropSet
from passband.particles.fit import ParticleConfig, fit_particle_model
from passband.particles.networks.harmonics import HarmonicSettings
from passband.particles.networks.objective import Sampling
from passband.particles.networks.train_rvae import RVAETraining

NAMES = ("clubs", "spades", "hearts", "diamonds")
BRIEF = RVAETraining(epochs=2, batch=16, learning_rate=3e-3, sampling=Sampling(stride=6))
CONFIG = ParticleConfig(name="cards", steps=100, pool=800, training=BRIEF, seed=2)
MOVED = Disorder(angle=60, shear=(-8, 8), scale=(1, 1.2), shift_y=(-0.1, 0.1))
LEAN = ParticleConfig(steps=2, pool=60, generative=False)


def cards(disorder, count, seed):
    """Cards and their record."""
    record = draw_cards(disorder, count, seed=seed)
    return make_cards(record), record


def card_crops(labelled=5, unlabelled=8, seed=41, **changed):
    """Upright cards with labels, and turned ones without."""
    known, record = cards(Disorder(angle=4, shear=(-8, 8), scale=(1, 1.2)), labelled, seed)
    values = {"classes": NAMES, "labelled": known, "labels": record.suit, "about": {"protocol": "drawn here"}}
    values["unlabelled"] = cards(MOVED, unlabelled, seed + 1)[0] if unlabelled else None
    return CropSet(**(values | changed))


@functools.cache
def made_ours():
    """Our model of a few upright cards and a few turned ones."""
    return fit_particle_model(card_crops(), CONFIG)


@functools.cache
def made_reference():
    """The reference's model of them."""
    return fit_particle_model(card_crops(), replace(CONFIG, reference=True))


@functools.cache
def unseen_cards():
    """Turned cards that no model saw, and their record."""
    return cards(MOVED, 20, 51)


def small(count=6, classes=2, size=12, **changed):
    """Crops that cost nothing: a bar or a block, and noise."""
    crops = 0.02 * np.random.default_rng(0).standard_normal((count, size, size), np.float32)
    crops[::2, 4:8, 4:8] += 1
    crops[1::2, 2:10, 5:7] += 1
    values = {"classes": tuple("abcde"[:classes]), "labelled": crops, "labels": np.arange(count) % 2}
    return CropSet(**(values | changed))


def quick(crops, config=LEAN, **more):
    """A model fitted in no time."""
    few = partial(HarmonicSettings, rings=5, orders=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("passband.particles.fit.HarmonicSettings", few)
        return fit_particle_model(crops, config, **more)
