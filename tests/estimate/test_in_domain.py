"""Images taken as those of the calibration were get the intervals of like images, and no others do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from passband.detections.matching import OPTIMAL
from passband.errors import CalibrationError
from passband.estimate.features import CANDIDATE_FEATURES
from passband.estimate.in_domain import Setting, Taken, _needed, _weights, ends, fit_in_domain
from passband.estimate.performance import adapt, estimate_scores, fit_calibration, forecast
from passband.estimate.records import from_record, to_record
from passband.estimate.rows import CalibrationRow

TALOS = Taken(instrument="Talos F200X", pixel_size=2.0)


def rows(seed=0, each=40, domains=4, taken=TALOS):
    """Domains that shift all scores by an amount of their own, which the noise of their images tells."""
    rng = np.random.default_rng(seed)
    made = []
    for d in range(domains):
        for i in range(each):
            features = dict(zip(CANDIDATE_FEATURES, rng.random(len(CANDIDATE_FEATURES)), strict=True))
            features |= {"count": float(rng.integers(5, 60)), "noise_level": d / domains}
            score = np.clip(0.25 + 0.2 * d + 0.1 * features["mean_score"] + 0.02 * rng.normal(), 0, 1)
            made.append(
                CalibrationRow(
                    features=features, f1=score, precision=score, recall=score,
                    domain=f"D{d}", image=f"{seed}/{d}/{i}", taken=taken,
                )
            )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def known():
    return fit_calibration(rows(), score_threshold=0.1, matching=OPTIMAL)


def told(calibration, some, taken):
    table = np.array([[r.features[n] for n in calibration.features] for r in some])
    return forecast(calibration, table, taken)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_like_images_are_told_more_narrowly_and_the_intervals_hold(known, seed):
    fresh = rows(seed=seed)
    f1 = np.array([r.f1 for r in fresh])
    new, like = (told(known, fresh, taken) for taken in (None, TALOS))
    assert like.in_domain.mean() > 0.9 and not new.in_domain.any()
    here = like.in_domain
    widths = [(said.high - said.low)[here, 0].mean() for said in (new, like)]
    assert widths[1] < 0.6 * widths[0]
    assert ((like.low[:, 0] <= f1) & (f1 <= like.high[:, 0]))[here].mean() > 0.85
    assert ((like.low <= like.value) & (like.value <= like.high)).all()
    assert (like.value == new.value).all()  # what is told does not depend on it, only how widely


@pytest.mark.parametrize(
    "taken",
    [
        None,
        Taken(),
        Taken(instrument="Talos F200X"),
        Taken(pixel_size=2.0),
        Taken(instrument="Talos F200i", pixel_size=2.0),
        Taken(instrument="Talos F200X", pixel_size=2.1),
        Taken(instrument="Talos F200X", pixel_size=1.9),
    ],
)
def test_nothing_is_narrower_for_another_instrument_or_pixel_size_or_an_unknown_one(known, taken):
    some = rows(seed=5, each=3)
    plain, said = told(known, some, None), told(known, some, taken)
    assert not said.in_domain.any()
    assert (plain.low == said.low).all() and (plain.high == said.high).all()


def test_a_novel_image_and_one_without_detections_are_told_as_before(known):
    row = rows(seed=6, each=1)[0]
    far = replace(row, features=dict(row.features) | {"noise_level": 1e4})
    empty = replace(row, features=dict(row.features) | {"count": 0.0})
    for odd in (far, empty):
        outlook = estimate_scores(known, odd.features, TALOS)
        assert not outlook.in_domain and outlook.abstained
    assert estimate_scores(known, empty.features, TALOS).estimates["f1"].high == 1.0


def test_labelled_images_of_a_domain_tell_more_than_likeness(known):
    labelled = rows(seed=7, each=10, domains=1)
    adapted = adapt(known, labelled, domain="mine")
    said = [told(adapted, rows(seed=8, each=2), taken) for taken in (None, TALOS)]
    assert not said[1].in_domain.any() and (said[0].low == said[1].low).all()


def test_rows_of_which_it_is_not_known_with_what_they_were_taken_make_no_narrower_intervals():
    for taken in (Taken(), Taken(instrument="Talos F200X"), Taken(pixel_size=2.0)):
        calibration = fit_calibration(rows(taken=taken), score_threshold=0.1, matching=OPTIMAL)
        assert calibration.in_domain is None


def test_like_images_are_those_of_which_it_is_known_with_what_they_were_taken():
    """Others count for what a new domain may do; a few known ones are too few."""
    some, others = rows(), rows(seed=1, taken=Taken())
    known = fit_calibration([*some, *others], score_threshold=0.1, matching=OPTIMAL).in_domain
    shown = [[r.f1, r.precision, r.recall] for r in some if r.features["count"] > 0]
    np.testing.assert_array_equal(known.scores, shown)
    few = fit_calibration([*some[:20], *others], score_threshold=0.1, matching=OPTIMAL)
    assert few.in_domain is None


def test_one_domain_alone_makes_none():
    """Its intervals are for new images of it already."""
    calibration = fit_calibration(rows(domains=1, each=60), score_threshold=0.1, matching=OPTIMAL)
    assert calibration.in_domain is None


def test_settings_hold_each_instrument_once_with_its_pixel_sizes():
    x, y = np.random.default_rng(0).random((60, 2)), np.full((60, 3), 0.5)
    names = [str(i) for i in range(60)]
    some = [Taken(instrument=("a  B", "A b", "c")[i % 3], pixel_size=1.0 + i % 3) for i in range(59)]
    fitted = fit_in_domain(x, y, ["D"] * 60, names, [*some, Taken()], coverage=0.9)
    assert fitted.settings == (
        Setting(instrument="a  B", low=1.0, high=2.0),
        Setting(instrument="c", low=3.0, high=3.0),
    )
    assert fitted.knows(Taken(instrument="A B", pixel_size=1.5))
    assert not fitted.knows(Taken(instrument="c", pixel_size=1.5))


def test_weights_of_an_image_add_up_to_one_and_favour_the_near():
    rng = np.random.default_rng(0)
    x = rng.random((80, 1))
    y = np.repeat(x, 3, axis=1)
    known = fit_in_domain(x, y, ["D"] * 80, [str(i) for i in range(80)], [TALOS] * 80, coverage=0.9)
    weights = _weights(known.forest, known.leaves, np.array([[0.1], [0.9]]))
    assert weights.sum(axis=1) == pytest.approx(1)
    assert (weights @ x)[:, 0] == pytest.approx([0.1, 0.9], abs=0.1)


def test_the_level_that_is_needed_is_the_least_at_which_the_interval_holds():
    """The quantiles at that level hold the truth, and at a little less they do not."""
    rng = np.random.default_rng(0)
    known = rng.random((40, 3))
    weights = rng.dirichlet(np.ones(40), 6)
    truth = rng.random((6, 3))
    needed = _needed(weights, known, truth)

    def held(level):
        found = np.zeros(truth.shape, bool)
        for i in range(6):
            for j in range(3):
                order = np.argsort(known[:, j])
                reached, values = weights[i, order].cumsum(), known[order, j]
                low, high = (
                    values[min(int((reached < q - 1e-9).sum()), 39)]
                    for q in ((1 - level[i, j]) / 2, (1 + level[i, j]) / 2)
                )
                found[i, j] = low <= truth[i, j] <= high
        return found

    assert held(np.minimum(needed + 1e-6, 1)).all()
    assert not held(np.maximum(needed - 1e-3, 0))[needed > 0.01].any()


def test_it_survives_a_file_and_hostile_ones_are_refused(known):
    record = to_record(known)
    again = from_record(record)
    some = rows(seed=9, each=3)
    assert (told(again, some, TALOS).low == told(known, some, TALOS).low).all()
    broken = {
        "in_domain.leaves": record.arrays["in_domain.leaves"] + 10**6,
        "in_domain.levels": record.arrays["in_domain.levels"] * np.nan,
        "in_domain.scores": record.arrays["in_domain.scores"][:-1],
        "in_domain_forest.leaves": record.arrays["in_domain_forest.leaves"] + 10.0**9,
        "in_domain_forest.left": record.arrays["in_domain_forest.left"] * 0,
    }
    for name, array in broken.items():
        with pytest.raises(CalibrationError):
            from_record(replace(record, arrays={**record.arrays, name: array}))
    with pytest.raises(CalibrationError):
        from_record(replace(record, settings={**record.settings, "settings": [{"instrument": "x"}]}))
    with pytest.raises(CalibrationError, match="no instrument"):
        replace(known.in_domain, settings=())


def test_a_calibration_of_an_earlier_version_has_none(known):
    record = to_record(known)
    settings = {k: v for k, v in record.settings.items() if k != "settings"}
    arrays = {k: v for k, v in record.arrays.items() if not k.startswith("in_domain")}
    old = from_record(replace(record, settings=settings, arrays=arrays))
    assert old.in_domain is None and not told(old, rows(seed=9, each=2), TALOS).in_domain.any()


def test_ends_of_no_images_are_none(known):
    low, high = ends(known.in_domain, np.zeros((0, len(known.features))))
    assert low.shape == high.shape == (0, 3)
