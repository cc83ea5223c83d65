"""The tables of verdicts against what a person works out by hand."""

import csv
import io
import math

import numpy as np

from passband.detections.detections import Detections
from passband.estimate.calibration import Estimate
from passband.judge.tables import objects_csv, results_csv
from passband.judge.verdict import Verdict, measure_sizes

F1 = Estimate(value=0.81234, low=0.7, high=0.9, coverage=0.9)
PRECISION = Estimate(value=0.9, low=0.8, high=0.95, coverage=0.9)
RECALL = Estimate(value=0.7, low=0.6, high=0.85, coverage=0.9)


def judged(boxes, *, pixel_size=5.0, thickness=None, known=True) -> Verdict:
    """A verdict on 100 x 200 pixels with these boxes."""
    found = Detections(
        image_shape=(100, 200),
        boxes_xyxy=np.array(boxes, np.float64).reshape(-1, 4),
        scores=np.linspace(0.9, 0.6, len(boxes)),
        score_threshold=0.5,
    )
    return Verdict(
        path="a.tif",
        verdict="review",
        reasons=("One thing.", "Another."),
        detections=found,
        estimates={"f1": F1, "precision": PRECISION, "recall": RECALL} if known else {},
        novelty=0.25 if known else None,
        sizes=measure_sizes(found, pixel_size, thickness),
    )


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


# 10, 20 and 40 pixels wide: 5, 10 and 20 nm at 0.5 nm a pixel.
THREE = [[10, 20, 20, 30], [30, 20, 50, 40], [60, 20, 100, 60]]


def test_densities_and_diameters_are_those_worked_out_by_hand():
    """Three objects on 50 nm x 100 nm = 0.005 µm² are 600 to the µm²."""
    (row,) = rows(results_csv([judged(THREE)]))
    assert row["number_density_per_um2"] == "600"
    assert (row["count"], row["pixel_size_nm"], row["score_threshold"]) == ("3", "0.5", "0.5")
    assert (row["mean_diameter_nm"], row["median_diameter_nm"]) == ("11.6667", "10")
    assert row["std_diameter_nm"] == f"{math.sqrt((25 + 100 + 400) / 3 - (35 / 3) ** 2):.6g}"
    assert row["swelling_percent"] == ""  # of a foil of unknown thickness


def test_estimates_stand_under_their_own_names():
    (row,) = rows(results_csv([judged(THREE)]))
    assert [row[n] for n in ("f1", "f1_low", "f1_high")] == ["0.8123", "0.7000", "0.9000"]
    assert [row[n] for n in ("precision", "precision_low", "precision_high")] == [
        "0.9000",
        "0.8000",
        "0.9500",
    ]
    assert [row[n] for n in ("recall", "recall_low", "recall_high")] == ["0.7000", "0.6000", "0.8500"]
    assert (row["coverage"], row["novelty"], row["reasons"]) == ("0.9", "0.25", "One thing. Another.")


def test_what_is_unknown_or_withheld_is_empty_and_never_nan_or_0():
    (withheld,) = rows(results_csv([judged(THREE, known=False)]))
    assert {withheld[n] for n in ("f1", "f1_low", "recall_high", "coverage", "novelty")} == {""}
    (nothing,) = rows(results_csv([judged([])]))
    assert {nothing[f"{n}_diameter_nm"] for n in ("mean", "median", "std")} == {""}
    assert (nothing["count"], nothing["number_density_per_um2"]) == ("0", "0")
    (one,) = rows(results_csv([judged(THREE[:1])]))
    assert (one["mean_diameter_nm"], one["std_diameter_nm"]) == ("5", "0")


def test_an_object_is_where_its_box_is_and_as_large():
    first, second = rows(objects_csv([judged([[10, 20, 14, 36], [99.5, 0, 100.5, 9]])]))
    assert (first["object"], second["object"]) == ("0", "1")
    assert (first["x_px"], first["y_px"], first["width_px"], first["height_px"]) == (
        "12.00", "28.00", "4.00", "16.00",
    )  # fmt: skip
    assert (first["diameter_px"], first["diameter_nm"], first["score"]) == ("8.00", "4", "0.9000")
    assert (second["x_px"], second["y_px"], second["diameter_px"]) == ("100.00", "4.50", "3.00")
    (unknown,) = rows(objects_csv([judged([[10, 20, 14, 36]], pixel_size=None)]))
    assert (unknown["diameter_px"], unknown["diameter_nm"]) == ("8.00", "")
