# For GNU make 3.81 and later. .venv/.complete is there only when an install has ended well, and is
# remade when the dependencies change: a .venv without it was interrupted, and is built again from nothing.

PYTHON ?= python3
BIN := .venv/bin
NOTEBOOKS := $(wildcard notebooks/*.ipynb notebooks/solutions/*.ipynb)

.DEFAULT_GOAL := help
.PHONY: figures docs test quicktest lab classroom clean help

figures: .venv/.complete ## every study on the embedded data: figures, tables and the book, in outputs/
	$(BIN)/noiseutils run all --profile quick

docs: .venv/.complete ## the book alone, of what is there: findings, chapters, how-to guides, API; outputs/book/index.html
	$(BIN)/noiseutils book

# One pytest for the tests and the notebooks: its closing line counts both and comes last.
# loadscope keeps the cells of a notebook on one worker, in order; as given, not by their number of tests: what is
# slow comes first, and no worker is left alone with it.
test: .venv/.complete ## lint, types, unit tests, every notebook
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder --nbval-lax --nbval-current-env $(NOTEBOOKS) tests

quicktest: .venv/.complete ## lint, and the tests that start no processes: a minute or two, for while you write
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m "not slow" tests

# Small networks train fastest with one thread each. Each training is a thread of its own and would keep an arena
# of glibc's, 45 MB more a training. .jupyter/ has JupyterLab's settings and the app's page.
LAB = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} MALLOC_ARENA_MAX=$${MALLOC_ARENA_MAX:-2} JUPYTER_CONFIG_PATH='$(CURDIR)/.jupyter' JUPYTER_PATH='$(CURDIR)/.jupyter'

lab: .venv/.complete ## the live lab in JupyterLab, for this machine only; the address it prints holds the token
	$(LAB) $(BIN)/jupyter-lab --ip=127.0.0.1 --ServerApp.root_dir='$(CURDIR)' --LabApp.default_url=/lab/tree/notebooks/06_live_lab.ipynb

classroom: .venv/.complete ## the live lab as an app without its code, for this machine only; the address holds the token
	$(LAB) $(BIN)/voila notebooks/06_live_lab.ipynb --Voila.ip=127.0.0.1 --token --template=classroom

clean: ## remove .venv, caches and rendered outputs; outputs/runs (trained results) and outputs/reference stay
	rm -rf .venv .pytest_cache .ruff_cache build dist *.egg-info notebooks/.ipynb_checkpoints
	find noiseutils tests -type d -name __pycache__ -prune -exec rm -rf {} +
	test ! -d outputs || find outputs/ -mindepth 1 -maxdepth 1 ! -name runs ! -name reference -exec rm -rf {} +

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile
	@echo 'Another interpreter, 3.11 or later: make PYTHON=python3.12 TARGET'

.venv/.complete: pyproject.toml pins.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; $(PYTHON) is not. Name one: make PYTHON=python3.12" >&2; exit 1; }
	@if test -e $@; then rm $@; else $(PYTHON) -m venv --clear .venv; fi
	$(BIN)/python -m pip install --disable-pip-version-check -c pins.txt -e '.[notebooks,attacks,ray,dev,frameworks,docs]'
	@touch $@
