# The book in two commands: `make book` and `make test`. `make help` lists the rest.

SHELL := /bin/sh
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

VENV := .venv
COLAB := .venv-colab
LOWEST := .venv-lowest
BIN := $(VENV)/bin
SETUP := $(VENV)/.installed
COLAB_SETUP := $(COLAB)/.installed
LOWEST_SETUP := $(LOWEST)/.installed
SITE := _build/html
BOOK := $(SITE)/.built

LIBRARY := $(shell find vdmlib -type f -not -name '*.pyc')
SOURCES := _config.yml _toc.yml tools/book/book_extension.py $(LIBRARY) \
	$(shell find book -type f -not -path '*/.ipynb_checkpoints/*' -not -path '*/__pycache__/*')
PAGE = file://$(abspath $(SITE))/index.html

.DELETE_ON_ERROR:
.PHONY: help setup book serve pdf test lint unit notebook-outputs browser test-colab processors kills lowest notebooks course lock clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 18

setup: $(SETUP)  ## create .venv with everything the book and its tests need

book: $(BOOK)  ## build the book and print the page to open
	@echo "The book is ready. Open $(PAGE)"

serve: $(BOOK)  ## build the book and serve it on http://localhost:8000
	@echo "The book is at http://localhost:8000 (Ctrl-C ends)"
	@$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory $(SITE)

pdf: $(BOOK)  ## print the book to one PDF (needs Chromium)
	$(BIN)/python tools/book/pdf.py

test: $(SETUP)  ## run everything that CI runs
	$(MAKE) --jobs 2 --output-sync=target lint $(BOOK) $(COLAB_SETUP)
	$(MAKE) unit notebook-outputs browser test-colab

lint: $(SETUP)  ## check the style of code and notebooks, and the types of the library
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/pytest -q --noconftest tests/model/test_house.py

unit: $(SETUP)  ## test the library against golden numbers, and the rules for notebooks
	$(BIN)/pytest -q -n 2 -m "not browser and not colab"

notebook-outputs: $(COLAB_SETUP)  ## run every notebook with Colab's versions and compare with its stored outputs
	OMP_NUM_THREADS=1 JUPYTER_PATH=$(abspath $(COLAB))/share/jupyter $(BIN)/pytest -q -n 2 --dist loadfile \
		--no-loadscope-reorder --nbval --nbval-kernel-name colab --nbval-cell-timeout 900 book

browser: $(BOOK)  ## test the built book in Chromium
	$(BIN)/pytest -q -n 2 --dist loadgroup -m "browser and not alone" tests/book
	$(BIN)/pytest -q -m "browser and alone" tests/book

test-colab: $(COLAB_SETUP)  ## run the coursework with Colab's versions, and the chapter whose outputs need more packages
	$(BIN)/pytest -q -n 2 --maxschedchunk 1 -m colab tests/book

processors: $(SETUP)  ## run unit tests and notebooks as other processors compute them (ONLY=sse41-1 for one)
	$(BIN)/python tools/book/other_processors.py $(if $(ONLY),--only $(ONLY))

kills: $(SETUP)  ## kill training at fifty random moments and see that nothing is lost
	KILLS=50 $(BIN)/pytest -q tests/small/test_kills.py

lowest: $(LOWEST_SETUP)  ## test the library with the lowest versions that pyproject.toml allows
	$(LOWEST)/bin/python -m pytest -q -n 2 -W default tests --ignore tests/book

notebooks: $(SETUP)  ## execute the notebooks again and store their outputs
	$(BIN)/python tools/book/execute_notebooks.py

course: $(SETUP)  ## write the coursework (course/) from the chapters
	$(BIN)/python tools/book/course.py

lock: $(SETUP)  ## write constraints.txt after a change to requirements.txt
	$(BIN)/python tools/book/lock.py

clean:  ## remove what was built; keep the environments
	rm -rf _build build .pytest_cache .ruff_cache vdmlib.egg-info
	find book tests tools vdmlib -name __pycache__ -prune -exec rm -rf {} +

$(SETUP): requirements.txt constraints.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found (on Debian and Ubuntu: apt install python3 python3-venv)." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -r requirements.txt -c constraints.txt
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(COLAB_SETUP): requirements-colab.txt pyproject.toml tools/book/colab_environment.py $(LIBRARY) $(SETUP)
	$(BIN)/python tools/book/colab_environment.py $(COLAB)
	touch $@

$(LOWEST_SETUP): pyproject.toml requirements.txt tools/book/lowest_versions.py $(SETUP)
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(BIN)/python tools/book/lowest_versions.py > $(LOWEST)/lowest.txt
	grep -E '^(beartype|hypothesis|pytest|pytest-xdist|nbclient|nbformat)==' requirements.txt >> $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -r $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(BOOK): $(SETUP) $(SOURCES)
	$(BIN)/jupyter-book build . --all -W --keep-going -n --quiet > /dev/null
	touch $@
