# The two commands are `make demo` and `make test`; each sets up what it needs.
PY := .venv/bin/python
STAMP := .venv/.ready
# One single-threaded process per core: two threads of one process are slower here than one.
export OMP_NUM_THREADS ?= 1
# Kept bytecode halves what every process takes to start; some machines turn it off for all.
export PYTHONDONTWRITEBYTECODE :=
export PASSBAND_DATA ?= $(abspath ../shared/data)

# How many of them test at once: one a core, and no more than eight, each of a gigabyte.
CORES ?= $(shell n=$$(env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 1); echo $$((n < 8 ? n : 8)))
PARALLEL := $(if $(filter-out 0 1,$(CORES)),-n $(CORES) --dist loadfile)

.PHONY: setup demo cards hrtem realism test suite test-slow test-kernels lint bench real

setup: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml
	test -x $(PY) || python3 -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check uv
	.venv/bin/uv pip install --quiet --python $(PY) --require-hashes -r requirements/dev.txt
	.venv/bin/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(PY) studies/demo.py out/demo

# Particles from 15 labels a class: trains in minutes, then numbers, manifolds, confusion and a film.
cards: setup
	$(PY) studies/cards.py out/cards

# A small dataset of simulated HRTEM, its check, and pictures, real tiles beside them: three minutes.
hrtem: setup
	$(PY) studies/hrtem.py out/hrtem

# Simulated gold beside real gold: contrast, histograms, spectra; four minutes.
realism: setup
	$(PY) studies/realism.py out/realism

# Both at once: what lint does takes one core for a while.
test: setup
	$(MAKE) --no-print-directory -j 2 lint suite

suite: setup
	$(PY) -m pytest -q -m "not slow" $(PARALLEL)

# What takes minutes: twenty kills of a simulation, arrays killed again and again, very many boxes.
test-slow: setup
	$(PY) -m pytest -q -m slow

# What is trained or fitted, under the kernels of other processors and with other random draws.
test-kernels: setup
	$(PY) tests/other_kernels.py $(CORES)

lint: setup
	.venv/bin/ruff check --quiet .
	.venv/bin/ruff format --check --quiet .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo 2>/dev/null || .venv/bin/lint-imports

# Each hot path beside the peer it is compared with.
bench: setup
	for f in benchmarks/bench_*.py; do echo "== $$f"; $(PY) $$f || exit 1; done

# Every GPU measurement, in under nine minutes, where a CUDA device is.
gpu: setup
	$(PY) benchmarks/gpu.py

# Your own micrographs: make real DATA=folder [SIDECAR=sizes.csv]
real: setup
	@test -n "$(DATA)" || { echo "say which folder: make real DATA=folder [SIDECAR=sizes.csv]"; exit 2; }
	.venv/bin/passband assess "$(DATA)" $(if $(SIDECAR),--sidecar "$(SIDECAR)") --report "out/real/$(notdir $(patsubst %/,%,$(DATA)))"

# Why one domain of the published table is told worst: three minutes.
.PHONY: worst-domain
worst-domain: setup
	$(PY) studies/worst_domain.py $(PASSBAND_DATA)/li2025/data_all_2.csv

# What the detector that ships finds in 48 published micrographs of cavities, beside the authors' numbers.
.PHONY: real-cavities
real-cavities: setup
	$(PY) studies/real_cavities.py $(PASSBAND_DATA)

# Scale bars in published micrographs, beside what a person reads: a minute.
.PHONY: scale-bars
scale-bars: setup
	$(PY) studies/scale_bars.py $(PASSBAND_DATA)/emps

# Images like those of the calibration, never looked at before: two minutes.
.PHONY: in-domain
in-domain: setup
	$(PY) studies/in_domain.py

# The bundle that ships, from nothing: train, choose the threshold, test, calibrate, report.
.PHONY: gpu generalist generalist-ways study defocus-map bundle paper held-out pairs any-detector own-detector loops label-next evidence strangers thon fuzz requirements
.PHONY: cards-table cards-curve cards-paper cards-poses cards-priors cards-stress particles
bundle: setup
	$(PY) studies/shipped_bundle.py

# The segmenter that ships for HRTEM, from nothing, judged, with tables and pictures: two hours.
generalist: setup
	$(PY) studies/generalist.py out/generalist
	$(PY) studies/segmenters_judged.py out/generalist --ship
	cp out/generalist/generalist.csv studies/results/
	cp out/generalist/generalist_ahead.png out/generalist/generalist_behind.png docs/gallery/
	.venv/bin/passband info hrtem --plot docs/gallery/generalist_map.png

# Ways to train it, each trained briefly and measured: twenty minutes.
generalist-ways: setup
	$(PY) studies/generalist.py out/generalist --ways
	cp out/generalist/generalist_ways.csv studies/results/

# A small study of how far networks see: trains six in a few minutes, then map, curves and table.
study: setup
	.venv/bin/passband study run studies/study_small.toml --out out/study --engine processes --workers $(CORES)
	.venv/bin/passband study export out/study --csv out/study/table.csv
	.venv/bin/passband study report out/study

# A small generalisation map with its prediction: sixteen networks, four minutes on two cores.
.PHONY: map
map: setup
	.venv/bin/passband study run studies/map_small.toml --out out/map --engine processes --workers $(CORES)
	.venv/bin/passband study map out/map --report out/map/map

# The studies of the map, 2,411 networks: a day of one core; each goes on where it was, and from what is packed
# in studies/results/networks. Then their tables.
.PHONY: map-studies
map-studies: setup
	for s in a b c d e; do .venv/bin/passband study run studies/map_$$s.toml --out out/maps/$$s \
		$$(ls studies/results/networks/$$s-*.xz 2>/dev/null | sed 's/^/--results /') \
		--engine processes --workers $(CORES) || exit; done
	$(PY) studies/map_tables.py out/maps

# Training conditions proposed for two ranges, and networks trained by them: ten minutes on one core.
.PHONY: designs
designs: setup
	for r in wide over; do .venv/bin/passband design --target studies/design_$$r.toml --budget 4 \
		--verify out/design_$$r > studies/results/design_$$r.txt || exit; done

# The defocus map: forty networks, tested at eleven foci; under half an hour on one core.
defocus-map: setup
	.venv/bin/passband study run studies/defocus.toml --out out/defocus --engine processes --workers $(CORES)
	.venv/bin/passband study export out/defocus --csv out/defocus/table.csv
	.venv/bin/passband study report out/defocus
	$(PY) studies/defocus_map.py out/defocus/table.csv studies/results/defocus_small.csv
	cp out/defocus/report/map.png docs/gallery/defocus_map.png

# The published random forest and every peer on the published table; it is not in the repository.
paper: setup
	.venv/bin/uv pip install --quiet --python $(PY) --require-hashes -r requirements/paper.txt
	$(PY) studies/paper_reproduction.py $(PASSBAND_DATA)/li2025/data_all_2.csv

held-out: setup
	$(PY) studies/published_table.py $(PASSBAND_DATA)/li2025/data_all_2.csv

# Five detectors on ten pairs of domains, a second kind of detector, particles: more than an hour.
pairs: setup
	$(PY) studies/ten_pairs.py
	$(PY) studies/particles.py
	$(PY) studies/ten_pairs.py table

# What is known of detectors in general, and each of them left out: ten minutes.
any-detector: setup
	$(PY) studies/any_detector.py --ship

# A threshold's findings on published micrographs, calibrated on a few of them; they are not in the repository.
own-detector: setup
	$(PY) studies/own_detector.py $(PASSBAND_DATA)/emps

# A detector trained on four real frames and told on the others; the frames are not in the repository: an hour.
loops: setup
	$(PY) studies/loops.py train $(PASSBAND_DATA)/loops
	$(PY) studies/loops.py tell $(PASSBAND_DATA)/loops

# Whether the images that a detector names teach it more than random ones; half an hour on two cores.
label-next: setup
	$(PY) studies/label_next.py $(PASSBAND_DATA)/emps

# What candidates, answers on changed copies and rims tell of an answer beyond its boxes: half an hour.
evidence: setup
	$(PY) studies/meta_set.py rows
	$(PY) studies/meta_set.py table

strangers: setup
	$(PY) studies/strangers.py

# How near images are to converged ones, by material and sampling; ways of multislice; of the focal average.
.PHONY: convergence
convergence: setup
	$(PY) studies/convergence.py
	$(PY) studies/convergence.py ways
	$(PY) studies/convergence.py films
	$(PY) studies/focal_average.py

# Focus and astigmatism from Thon rings, on simulated micrographs whose own are known.
thon: setup
	$(PY) studies/thon_rings.py

# Every method on the cards; the paper's experiments; accuracy told without labels: an hour and more.
cards-table: setup
	$(PY) studies/cards_table.py --method ours --seeds 3
	$(PY) studies/cards_table.py --seeds 1

cards-curve: setup
	$(PY) studies/cards_curve.py

cards-paper: setup
	$(PY) studies/cards_paper.py

cards-poses: setup
	$(PY) studies/cards_poses.py

cards-priors: setup
	$(PY) studies/cards_priors.py

cards-stress: setup
	$(PY) studies/cards_stress.py

# Real particles with known outlines: how well they are found, how many of them touch.
particles: setup
	$(PY) studies/particle_extraction.py $(PASSBAND_DATA)/emps
	$(PY) studies/touching_particles.py $(PASSBAND_DATA)/emps

# A folder's scores, counts and sizes from a few labelled images: how often the intervals hold, how wide they are.
.PHONY: survey
survey: setup
	$(PY) studies/survey_bars.py $(PASSBAND_DATA)

# Every page of the documentation run, its tutorials too; the page of all commands; the tutorials' pictures.
.PHONY: docs-test commands tutorials
docs-test: setup
	$(PY) -m pytest -q -m "slow or not slow" tests/faces/test_docs.py

commands: setup
	$(PY) tests/documents.py commands

tutorials: setup
	$(PY) tests/documents.py pictures

# 5,000 mutations of a valid file of every format.
fuzz: setup
	PASSBAND_MUTATIONS=5000 $(PY) -m pytest -q tests/micrographs/test_hostile_files.py tests/detections/test_hostile_files.py

# Each module broken in one place after another, and what no test notices; an hour. A third of policy.py:
# make mutants MODULES=src/passband/judge/policy.py EVERY=3
.PHONY: mutants
mutants: setup
	$(PY) tests/mutants.py $(if $(EVERY),--every $(EVERY)) $(MODULES)

requirements:
	.venv/bin/uv pip compile --quiet $(if $(UPGRADE),--upgrade) --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --override requirements/overrides.txt --extra dev --extra oracle pyproject.toml -o requirements/dev.txt
	.venv/bin/uv pip compile --quiet $(if $(UPGRADE),--upgrade) --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --extra paper --constraint requirements/dev.txt pyproject.toml -o requirements/paper.txt
