"""Laws of exported truth: what each object is, in every split alike."""

from __future__ import annotations

import json
from pathlib import Path

from passband.detections.files import read_detections
from passband.hrtem.dataset.export import export_dataset
from passband.hrtem.dataset.simulate import simulate_dataset
from passband.hrtem.dataset.study import SimulationStudy, Splits
from passband.hrtem.specimen.specimen import SpecimenRanges
from passband.hrtem.wave.scattering import WaveSettings
from passband.optics.conditions import ConditionRanges


def test_categories_are_materials_and_shapes_alike_in_every_split(tmp_path: Path) -> None:
    study = SimulationStudy(
        scenes=6,
        seed=3,
        splits=Splits(train=0.5, validation=0.0, test=0.5),
        specimen=SpecimenRanges(
            materials=("Si", "Au"),
            shapes=("sphere", "octahedron"),
            diameters=(8, 10),
            count=(2, 3),
            cell=(51.2, 38.4),
            thickness=(0, 0),
            least_distance=3.0,
        ),
        wave=WaveSettings(pixel_size=0.4),
        imaging=ConditionRanges(pixel_size=0.4),
    )
    dataset = simulate_dataset(study, tmp_path / "set", workers=1).dataset
    out = export_dataset(dataset, tmp_path / "out", splits=("train", "test")).folder
    known, seen = [], set()
    for split in ("train", "test"):
        path = out / split / "truth.coco.json"
        document = json.loads(path.read_text())
        known.append(document["categories"])
        kinds = {c["id"]: (c["material"], c["shape"]) for c in document["categories"]}
        told = [kinds[a["category_id"]] for a in document["annotations"]]
        objects = iter(told)
        for name, found in read_detections(path).items():
            scene = dataset.scene(int(name.split("_")[1]))
            for mask in found.masks or ():
                y, x = (int(v) for v in (mask.pixels.nonzero()[0][0], mask.pixels.nonzero()[1][0]))
                particle = scene.specimen.particles[scene.labels[mask.y + y, mask.x + x] - 1]
                assert next(objects) == (particle.material, particle.shape)
        assert next(objects, None) is None
        seen |= set(told)
    assert known[0] == known[1] and len({c["name"] for c in known[0]}) == len(known[0])
    assert len(seen) >= 3
