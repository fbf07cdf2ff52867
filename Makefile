# Two commands matter: `make report` and `make test`. Both set up what they need; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin
NOTEBOOKS := $(sort $(wildcard notebooks/[0-9]*.ipynb))
# The wings whose public names have numpydoc docstrings, in step with their signatures; a command's is its help.
DOCUMENTED := $(filter-out m2tables/cli.py,$(wildcard $(foreach wing,series accounting model decoding,m2lib/$(wing)/*.py) m2tables/*.py))
# Two notebooks or test files at a time share the cores; torch would take all of them for each.
HALF_THE_CORES := $(BIN)/python -c 'import os; print(max(1, os.cpu_count() // 2))'
SHARED := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$$($(HALF_THE_CORES))}
EXECUTE := $(BIN)/python -m book.execute
ifeq ($(or $(M2_PROFILE),slice),slice)
REPORTING := $(SHARED) $(EXECUTE) --lanes 2
# The slice keeps no records, so the study that FRESH=1 computes anew is the laptop's.
STUDY := M2_PROFILE=laptop M2_BACKBONE= $(BIN)/python -m study
else
# Where runs are long, as on a graphics card, one notebook after another has it all.
REPORTING := $(EXECUTE)
STUDY := $(BIN)/python -m study
endif
REPORT := build/report
PAGES := build/book

# The tools see this project's environment and no other; notebooks find python3's kernel in it.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export JUPYTER_PLATFORM_DIRS := 1
# Notebooks run in their own folder, so relative paths are made absolute here (not by abspath: it splits at spaces).
# Where one is not set, it becomes empty, which counts as not set.
absolute = $(if $(filter-out /% ~%,$(firstword $(1))),$(CURDIR)/$(1),$(1))
# In lines of their own, because the make of macOS, 3.81, takes `override export NAME` for a name.
override M2_DATA := $(call absolute,$(M2_DATA))
override M2_CACHE := $(call absolute,$(M2_CACHE))
override M2_OUT := $(call absolute,$(M2_OUT))
override M2_RESULTS := $(call absolute,$(M2_RESULTS))
export M2_DATA M2_CACHE M2_OUT M2_RESULTS
# A language model is given by its name, or by a path.
ifneq ($(wildcard $(M2_BACKBONE)),)
override M2_BACKBONE := $(call absolute,$(M2_BACKBONE))
export M2_BACKBONE
endif
# A switch, such as FRESH, that says no is empty.
on = $(filter-out 0 no No NO false False FALSE off Off OFF,$(1))
# These targets write where others read: one at a time.
.NOTPARALLEL:

.PHONY: help setup model fresh report site browse figures test coverage fuzz processors lint notebooks exercises \
	execute bench clean

help:
	@echo "make report     execute the notebooks at the active profile, and make a website"
	@echo "                of them, the pages, the PDF and the library: build/report/"
	@echo "                FRESH=1 first computes the laptop's study anew, in build/fresh/"
	@echo "                (more than a day; it goes on where it was stopped)"
	@echo "make site       the website alone, from the notebooks as last executed by"
	@echo "                make report, else as committed"
	@echo "make browse     make site, and open each of its pages in Chromium, offline"
	@echo "make notebooks  open JupyterLab"
	@echo "make exercises  the lectures without solutions, for you to fill in:"
	@echo "                exercises/"
	@echo "make test       lint, unit tests, and the notebooks as a regression test"
	@echo "make lint       the first part of make test: ruff, mypy, the order of the"
	@echo "                wings, docstrings"
	@echo "make coverage   how much of each wing, and of the study, the unit tests run"
	@echo "make fuzz       attacks on records: hundreds of damaged files"
	@echo "make processors executes the notebooks as on lesser processors, in both dtypes,"
	@echo "                and lists what fails or differs (an hour or two)"
	@echo "make figures    report/figures/ and report/main.pdf, from the records"
	@echo "make execute    re-execute the committed notebooks in place, or one of them:"
	@echo "                NOTEBOOKS=notebooks/08_context_length.ipynb"
	@echo "make bench      time decoding and training beside peers, and the machine's"
	@echo "                limit (15 minutes); BENCH=--record and so on are its options"
	@echo "make setup      install all into .venv/; the commands above do so themselves"
	@echo "make model      fetch the language model; those that need it do so themselves"
	@echo "make clean      remove .venv/ and build/, but not unfinished runs, build/fresh/"
	@echo "                and build/replaced/; ALL=1 removes these, too"

setup: .venv/.ok

.venv/.ok: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "m2lib needs Python 3.11 or newer, and $(PYTHON) is older or missing; try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
		{ echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@# Kernels load m2lib before a notebook may load torch, so that threads wait as m2lib has them wait. Without the
	@# second line they print a warning about local sockets at each start.
	@mkdir -p .venv/etc/ipython
	@printf '%s\n' 'import m2lib' 'c.IPKernelApp.log_level = 40' > .venv/etc/ipython/ipython_kernel_config.py
	@touch $@

model: .venv/.ok
	@$(BIN)/python -m study model

# With FRESH=1 the records come from build/fresh, where they are computed from nothing; the committed ones stay.
fresh: override M2_RESULTS := $(CURDIR)/build/fresh
fresh: model
	$(STUDY) run --all --beyond
	@# What has not been computed anew, such as the replication on other weights, is shown as committed.
	@for study in $(notdir $(wildcard report/results/*-*)); do \
		[ -e build/fresh/$$study ] || cp -R report/results/$$study build/fresh/; done

ifneq ($(call on,$(FRESH)),)
report: override M2_RESULTS := $(CURDIR)/build/fresh
report: fresh
endif

report: model
	rm -rf $(REPORT)
	@# The last ones take longest: begun first, they leave no core idle at the end.
	M2_OUT="$(CURDIR)/$(REPORT)" $(REPORTING) $(REPORT)/notebooks \
		$(shell printf '%s\n' $(NOTEBOOKS) | sort -r)
	$(if $(filter report,$(M2_PROFILE)),,$(BIN)/python -m study pdf $(REPORT)/pdf)
	@$(MAKE) --no-print-directory site
	@# A notebook that failed takes no other with it. Only now does it count.
	@! cat $(REPORT)/notebooks/failures.txt 2>/dev/null

# Pages, notebooks, PDF, the cards, the gallery and what is read from docstrings come together in one folder, and Sphinx makes
# the website of it. A warning counts as an error. The PDF is the one that was just made, else the committed one.
site: .venv/.ok
	@rm -rf $(PAGES) && mkdir -p $(dir $(PAGES)) $(REPORT)
	@cp -R book $(PAGES) && mkdir -p $(PAGES)/notebooks $(PAGES)/pdf
	@cp $(or $(wildcard $(REPORT)/notebooks/*.ipynb),$(NOTEBOOKS)) $(PAGES)/notebooks/
	@mkdir -p $(PAGES)/report/figures && cp report/figures/best_forecasts.svg $(PAGES)/report/figures/
	$(if $(filter report,$(M2_PROFILE)),,@cp $(or $(wildcard $(REPORT)/pdf/main.pdf),report/main.pdf) $(PAGES)/pdf/)
	@find $(REPORT) -name '*.html' -exec rm {} +
	$(BIN)/python book/api.py $(PAGES)/api
	$(BIN)/python book/cards.py $(PAGES)
	@# The gallery shows the laptop's study: the committed one, where another profile is computed afresh.
	$(if $(filter report fifth,$(M2_PROFILE)),M2_RESULTS= )$(BIN)/python book/gallery.py $(PAGES)
	$(BIN)/sphinx-build -q -W --keep-going -d $(PAGES)/.doctrees $(PAGES) $(REPORT)
	@echo "read $(REPORT)/index.html"

browse: site
	@$(BIN)/python -c 'import playwright' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[browser]"
	$(BIN)/python book/browse.py $(REPORT)

figures: .venv/.ok
	$(BIN)/python -m study pdf

lint: .venv/.ok
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/numpydoc lint $(DOCUMENTED)

test: lint
	@$(BIN)/m2 model smollm2-135m
	$(SHARED) $(BIN)/pytest --numprocesses 2 --dist loadfile

# In the tests' own process only: what runs in others, such as those that are killed, counts as not run.
coverage: .venv/.ok
	@$(BIN)/m2 model smollm2-135m
	$(BIN)/coverage run -m pytest tests
	@for wing in $(patsubst %/__init__.py,%,$(wildcard m2lib/*/__init__.py m2tables/__init__.py study/__init__.py study/*/__init__.py)); do \
		echo "$$wing $$($(BIN)/coverage report --fail-under=0 --format=total --include="$$wing/*")%"; done
	$(BIN)/coverage report --skip-covered

# Before a release, or when a lecture's asserts change. VARIANTS="avx2-avx2-float32-1t" runs one of them.
processors: model
	$(BIN)/python -m book.processors $(VARIANTS)

# Not part of the tests: hundreds of damaged records.
fuzz: .venv/.ok
	@$(BIN)/m2 model smollm2-135m
	$(BIN)/pytest -m fuzz tests

notebooks: model
	$(BIN)/jupyter lab notebooks

# In a folder beside theirs, so that their links hold. What a reader has filled in is not overwritten.
exercises: model
	@[ ! -e exercises ] || { echo "exercises/ is there already; move it away first"; exit 1; }
	$(BIN)/python -m book.exercises exercises $(NOTEBOOKS)
	$(BIN)/jupyter lab exercises

execute: model
	rm -rf build/execute
	@# In float32, whatever this processor is fastest in, because the text quotes numbers that depend on it. A progress bar
	@# would stay in the notebook, as a widget.
	TQDM_DISABLE=1 M2_PROFILE=slice M2_OUT="$(CURDIR)/build/execute" M2_BACKBONE= M2_DTYPE=float32 M2_RESULTS= \
		$(EXECUTE) --tidy build/execute/notebooks $(NOTEBOOKS)
	@! cat build/execute/notebooks/failures.txt 2>/dev/null
	cp build/execute/notebooks/*.ipynb notebooks/

bench: model
	$(BIN)/python -m benchmarks.bench $(BENCH)

# What took hours: checkpoints, of which a finished run leaves none, the records of FRESH=1, and those that were replaced.
UNFINISHED := $(if $(call on,$(ALL)),,$(wildcard build/checkpoints/* build/fresh build/replaced))

clean:
	rm -rf .venv
ifeq ($(UNFINISHED),)
	rm -rf build
else
	find build -mindepth 1 -maxdepth 1 ! -name checkpoints ! -name fresh ! -name replaced -exec rm -rf {} +
	@echo "kept, for they took long to compute: $(UNFINISHED); make clean ALL=1 removes them too"
endif
