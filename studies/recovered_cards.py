"""Cards of the recovered templates, where PASSBAND_DATA has them, else of the suits drawn here."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from passband.particles.cards import PROTOCOLS, draw_cards, draw_templates, make_cards, read_templates


def templates() -> dict[str, np.ndarray]:
    """The recovered ones where they are, else ours."""
    path = Path(os.environ.get("PASSBAND_DATA", "../shared/data")) / "cards" / "templates64.npz"
    return read_templates(path) if path.exists() else draw_templates()


def drawn(shapes: list[np.ndarray], count: int, seed: int, **changes: float) -> tuple[np.ndarray, np.ndarray]:
    """Unlabelled or test cards with their suits."""
    disorder = replace(PROTOCOLS["paper-notebook"].unlabelled, **changes)
    record = draw_cards(disorder, count, seed=seed, suits=len(shapes))
    return make_cards(record, shapes), record.suit


def labelled(shapes: list[np.ndarray], count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labelled cards, so many of each suit."""
    record = draw_cards(PROTOCOLS["paper-notebook"].labelled, count, seed=seed)
    return make_cards(record, shapes), record.suit
