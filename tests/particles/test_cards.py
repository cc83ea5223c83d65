"""Cards are drawn as the two protocols say, and the same again from the same seed."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.errors import ParameterError, ReadError
from passband.particles import cards
from passband.particles.cards import (
    PROTOCOLS,
    SIZE,
    STRANGERS,
    SUITS,
    SYMMETRY,
    Disorder,
    angle_error,
    card_set,
    draw_cards,
    draw_template,
    draw_templates,
    make_cards,
    read_templates,
)
from passband.particles.networks.warping import Affine, deform

STILL = Disorder(angle=0, shear=(0, 0), scale=(1, 1))
# What the notebook and the text of the paper say: angle, shear, scale, shift along x and y.
SAID = {
    ("paper-notebook", "labelled"): (4, (-15, 15), (1, 1.3), (0, 0), (0, 0)),
    ("paper-notebook", "unlabelled"): (60, (-15, 15), (1, 1.3), (0, 0), (-0.1, 0.1)),
    ("paper-text", "labelled"): (4, (0, 15), (1, 1.3), (0, 0), (0, 0)),
    ("paper-text", "unlabelled"): (60, (0, 15), (1, 1.3), (0, 0.1), (0, 0.1)),
}


@pytest.fixture
def few(monkeypatch):
    """Both protocols with a few cards."""
    for name, protocol in PROTOCOLS.items():
        monkeypatch.setitem(cards.PROTOCOLS, name, replace(protocol, counts=(5, 6, 7)))


@pytest.mark.parametrize("protocol, part", list(SAID))
def test_a_drawn_record_fills_the_stated_ranges_and_no_more(protocol, part):
    angle, shear, scale, shift_x, shift_y = SAID[protocol, part]
    affine = draw_cards(getattr(PROTOCOLS[protocol], part), 500, seed=3).affine
    for values, (low, high) in (
        (affine.angle, (-angle, angle)),
        (affine.shear_x, shear),
        (affine.shear_y, shear),
        (affine.scale, scale),
        (affine.shift_x / SIZE, shift_x),
        (affine.shift_y / SIZE, shift_y),
    ):
        assert low <= values.min() and values.max() <= high
        # Of 2,000 uniform draws, one falls within 1 % of each end but for a chance of 2e-9.
        slack = 0.01 * (high - low)
        assert values.min() <= low + slack and values.max() >= high - slack
    assert PROTOCOLS[protocol].counts == (200, 3000, 1000)


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_the_same_seed_makes_the_same_cards_and_another_others(few, protocol):
    a, b, c = (card_set(protocol, seed=s) for s in (1, 1, 2))
    for part in ("labelled", "unlabelled", "test"):
        assert getattr(a, part).tobytes() == getattr(b, part).tobytes()
        assert not np.array_equal(getattr(a, part), getattr(c, part))
    for truth in ("labels", "unlabelled_truth", "test_truth"):
        assert np.array_equal(getattr(a, truth), getattr(b, truth))


def test_a_set_has_its_counts_of_each_suit_in_parts_that_share_no_card(few):
    made = card_set(seed=4)
    assert made.classes == ("clubs", "spades", "hearts", "diamonds")
    for truth, count in ((made.labels, 5), (made.unlabelled_truth, 6), (made.test_truth, 7)):
        assert np.bincount(truth).tolist() == [count] * 4
    every = np.concatenate([made.labelled, made.unlabelled, made.test])
    assert len(np.unique(every.reshape(len(every), -1), axis=0)) == 4 * (5 + 6 + 7)
    assert card_set(seed=4, labels=2).labelled.shape == (8, 48, 48)


def test_cards_made_a_few_at_a_time_are_those_made_together(monkeypatch):
    record = draw_cards(PROTOCOLS["paper-text"].unlabelled, 5, seed=7)
    together = make_cards(record)
    monkeypatch.setattr(cards, "_CHUNK", 7)
    np.testing.assert_allclose(make_cards(record), together, atol=1e-5)


def test_labels_say_which_suit_a_card_is_of():
    record = draw_cards(STILL, 3, seed=0)
    upright = np.stack(list(draw_templates().values()))[:, 8:-8, 8:-8]
    np.testing.assert_allclose(make_cards(record), upright[record.suit], atol=1e-5)


def test_only_the_test_cards_get_the_test_disorder(few):
    plain, changed = card_set(seed=1), card_set(seed=1, test={"noise": 0.5, "scale": (0.5, 0.6)})
    assert np.array_equal(plain.labelled, changed.labelled)
    assert np.array_equal(plain.unlabelled, changed.unlabelled)
    assert not np.array_equal(plain.test, changed.test)
    assert changed.about["test"]["noise"] == 0.5 and changed.about["test"]["scale"] == (0.5, 0.6)
    assert changed.test.sum() < 0.5 * plain.test.sum()


def test_the_test_cards_may_differ_in_any_field_of_the_disorder(few):
    assert card_set(seed=1, test={"angle": 180}).about["test"]["angle"] == 180


@pytest.mark.parametrize("angle", [0, 30, 180])
def test_the_angle_asked_for_is_the_unlabelled_cards(few, angle, monkeypatch):
    drawn = []
    real = cards.draw_cards
    monkeypatch.setattr(cards, "draw_cards", lambda d, *a, **k: drawn.append(d.angle) or real(d, *a, **k))
    card_set(angle=angle)
    assert drawn == [4, angle, angle]


def turned(template, angle):
    one, zero = np.ones(len(angle)), np.zeros(len(angle))
    a = Affine(angle=angle, shear_x=zero, shear_y=zero, scale=one, shift_x=zero, shift_y=zero)
    images = torch.from_numpy(template).expand(len(angle), -1, -1)
    return deform(images, a, 64)


def likeness(a, b):
    a, b = (v.reshape(len(v), -1) - v.reshape(len(v), -1).mean(1)[:, None] for v in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def test_no_suit_is_another_turned():
    drawn = {name: draw_template(shape) for name, shape in (SUITS | STRANGERS).items()}
    names = list(drawn)
    for i, name in enumerate(names):
        every = turned(drawn[name], np.arange(0, 360, 5.0))
        for other in names[i + 1 :]:
            best = float(likeness(every, torch.from_numpy(drawn[other])[None]).max())
            assert best < 0.96, (name, other, best)


@pytest.mark.parametrize("name", list(SUITS))
def test_a_suit_is_centred_and_in_the_card_at_the_greatest_scale_and_shift(name):
    template = draw_templates()[name]
    rows, columns = (np.flatnonzero(template.max(axis) > 0.5) for axis in (1, 0))
    for seen in (rows, columns):
        assert abs(seen.mean() - 31.5) <= 1.0
    ends = np.array([[a, x, y] for a in range(0, 360, 15) for x in (-4.8, 0, 4.8) for y in (-4.8, 0, 4.8)])
    n, zero = len(ends), np.zeros(len(ends))
    record = replace(
        draw_cards(STILL, n, seed=0, suits=1),
        affine=Affine(
            angle=ends[:, 0], shear_x=zero, shear_y=zero, scale=zero + 1.3,
            shift_x=ends[:, 1], shift_y=ends[:, 2],
        ),
    )  # fmt: skip
    inside = make_cards(record, [template]).sum((1, 2)) / (1.3**2 * template.sum())
    still = (ends[:, 1:] == 0).all(1)
    assert np.abs(inside[still] - 1).max() < 0.005
    assert inside.min() > 0.95  # a lobe's rim in the corner of both greatest shifts


@pytest.mark.parametrize("name", list(SUITS))
def test_a_suit_has_the_symmetry_that_is_stated_and_no_more(name):
    template = draw_templates()[name]
    every = turned(template, np.arange(0, 360, 10.0))
    same = (every - torch.from_numpy(template)).abs().amax((1, 2)) < 0.02
    assert same.sum() == SYMMETRY[name]
    if SYMMETRY[name] == 2:
        assert np.array_equal(template, template[::-1, ::-1])
    else:
        assert not np.allclose(template, template[::-1, ::-1], atol=0.5)


def test_noise_has_the_stated_spread():
    record = draw_cards(replace(STILL, noise=0.4), 50, seed=1)
    noise = make_cards(record) - make_cards(replace(record, noise=0.0))
    n = noise.size
    assert abs(noise.mean()) < 5 * 0.4 / n**0.5
    assert abs(noise.std() - 0.4) < 5 * 0.4 / (2 * n) ** 0.5
    neighbours = (noise[:, :, 1:] * noise[:, :, :-1]).mean() / 0.4**2
    assert abs(neighbours) < 5 / n**0.5


def test_contamination_is_the_stated_share_at_the_stated_intensity():
    record = draw_cards(replace(STILL, contamination=0.12, contamination_intensity=2.5), 50, seed=1)
    added = make_cards(record) - make_cards(replace(record, contamination=0.0))
    hit = added > 1
    np.testing.assert_allclose(added, np.where(hit, 2.5, 0), atol=1e-6)
    assert abs(hit.mean() - 0.12) < 5 * (0.12 * 0.88 / hit.size) ** 0.5
    # And anywhere: as often on the shape as off it.
    on = make_cards(replace(record, contamination=0.0)) > 0.5
    assert abs(hit[on].mean() - 0.12) < 5 * (0.12 * 0.88 / on.sum()) ** 0.5


def square_and_disc(side=64):
    at = np.arange(side) - (side - 1) / 2
    x, y = np.meshgrid(at, at)
    return {
        "square": (np.maximum(abs(x), abs(y)) < 9).astype(np.float32),
        "disc": (np.hypot(x, y) < 13).astype(np.float32),
    }


def test_templates_of_a_file_are_used(few, tmp_path):
    given = square_and_disc()
    np.savez(tmp_path / "t.npz", **given)
    templates = read_templates(tmp_path / "t.npz")
    assert list(templates) == ["square", "disc"]
    made = card_set(templates=templates, seed=0)
    assert made.classes == ("square", "disc") and np.bincount(made.labels).tolist() == [5, 5]
    record = draw_cards(STILL, 2, seed=0, suits=2)
    expected = np.stack(list(given.values()))[:, 8:-8, 8:-8][record.suit]
    np.testing.assert_allclose(make_cards(record, list(templates.values())), expected, atol=1e-5)


def damaged(path):
    np.savez(path, **square_and_disc())
    path.write_bytes(path.read_bytes()[:2000])


def flipped(path):
    np.savez_compressed(path, **square_and_disc())
    content = bytearray(path.read_bytes())
    for at in range(60, 100):
        content[at] ^= 0x5A
    path.write_bytes(content)


BAD = {
    "pickled.npz": lambda p: np.savez(p, a=np.array([{}], object), b=np.array([{}], object)),
    "one.npz": lambda p: np.savez(p, a=np.ones((64, 64))),
    "words.npz": lambda p: np.savez(p, a=np.array(["x"]), b=np.array(["y"])),
    "text.npz": lambda p: p.write_text("no templates here"),
    "empty.npz": lambda p: p.write_bytes(b""),
    "cut.npz": damaged,
    "flipped.npz": flipped,
    "missing.npz": lambda p: None,
    "folder.npz": lambda p: p.mkdir(),
    "single.npz": lambda p: np.save(p.open("wb"), np.ones((64, 64))),
}


@pytest.mark.parametrize("name", list(BAD))
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_file_that_holds_no_templates_is_refused_by_name(name, tmp_path):
    BAD[name](tmp_path / name)
    with pytest.raises(ReadError, match=name.replace(".", r"\.")):
        read_templates(tmp_path / name)


def test_every_fault_of_templates_is_named(tmp_path):
    bad = {
        "wide": np.ones((64, 60)),
        "small": np.ones((20, 20)),
        "bright": np.full((64, 64), 1.5),
        "dark": np.full((64, 64), -0.5),
        "broken": np.full((64, 64), np.nan),
        "flat": np.ones(64),
    }
    np.savez(tmp_path / "bad.npz", **bad, good=np.ones((64, 64)))
    with pytest.raises(ReadError) as e:
        read_templates(tmp_path / "bad.npz")
    assert all(name in str(e.value) for name in bad) and "good" not in str(e.value)


def test_templates_of_different_sizes_are_refused(tmp_path):
    np.savez(tmp_path / "sizes.npz", a=np.ones((64, 64)), b=np.ones((60, 60)))
    with pytest.raises(ReadError, match=r"sizes\.npz"):
        read_templates(tmp_path / "sizes.npz")


def test_every_fault_of_a_disorder_is_named():
    with pytest.raises(ParameterError) as e:
        Disorder(
            angle=181, shear=(5, -5), scale=(0, 1), shift_x=(0.2, 0.1), shift_y=(-1, 0), noise=-1,
            contamination=1.2,
        )  # fmt: skip
    for word in ("angle", "shear", "scale", "shift_x", "shift_y", "noise", "contamination must be a share"):
        assert word in str(e.value)


@pytest.mark.parametrize("field", ["angle", "noise", "contamination", "contamination_intensity"])
def test_a_disorder_of_nan_is_refused(field):
    with pytest.raises(ParameterError):
        Disorder(**{"angle": 1, field: float("nan")})


def test_a_protocol_that_is_not_there_names_those_that_are():
    with pytest.raises(ParameterError, match="paper-notebook, paper-text"):
        card_set("papers")
    with pytest.raises(ParameterError, match="got 0"):
        draw_cards(STILL, 0, seed=0)


def test_what_a_set_was_made_from_is_with_it(few):
    assert card_set("paper-text", seed=7).about == {
        "protocol": "paper-text",
        "seed": 7,
        "test": asdict(PROTOCOLS["paper-text"].unlabelled),
    }


angles = st.floats(-1000, 1000)
folds = st.integers(1, 6)


def error(a, b, n):
    return float(angle_error(np.array([a]), np.array([b]), np.array([n]))[0])


@given(a=angles, b=angles, n=folds)
def test_the_error_of_an_angle_is_symmetric_and_at_most_half_a_period(a, b, n):
    assert 0 <= error(a, b, n) <= 180 / n + 1e-9
    assert error(a, b, n) == pytest.approx(error(b, a, n), abs=1e-9)
    assert error(a, a, n) == 0


@given(a=angles, b=angles, n=folds, turns=st.integers(-3, 3))
def test_a_turn_by_the_symmetry_is_no_error(a, b, n, turns):
    assert error(a + turns * 360 / n, b, n) == pytest.approx(error(a, b, n), abs=1e-8)


@given(a=angles, b=angles, c=angles, n=folds)
def test_the_error_of_an_angle_is_a_distance(a, b, c, n):
    assert error(a, c, n) <= error(a, b, n) + error(b, c, n) + 1e-9


@given(a=angles, small=st.floats(0, 29), n=folds)
def test_a_small_turn_is_its_own_error(a, small, n):
    assert error(a + small, a, n) == pytest.approx(small, abs=1e-9)
