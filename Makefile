# The two commands are `make demo` and `make test`; each sets up what it needs.
PY := .venv/bin/python
STAMP := .venv/.ready
# One single-threaded process per core: two threads of one process are slower here than one.
export OMP_NUM_THREADS ?= 1
export PASSBAND_DATA ?= $(abspath ../shared/data)

.PHONY: setup demo test lint bench real

setup: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml
	test -x $(PY) || python3 -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check uv
	.venv/bin/uv pip install --quiet --python $(PY) --require-hashes -r requirements/dev.txt
	.venv/bin/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	touch $@
