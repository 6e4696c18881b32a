# Everything runs from here: `make demo` to see it work, `make test` to check it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= 8

.PHONY: setup setup-train setup-browser vendor demo test mutants fuzz memory bench bench-report thousand chaos slurm-test setup-slurm setup-groovy gpu-test gpu-bench lint clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "ercohort needs Python 3.11 or newer; name one: make setup PYTHON=python3.11"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) \
		|| { echo "venv is missing; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# Training needs torch; the constraint keeps pip from a build that brings gigabytes of CUDA with it.
setup-train: $(VENV)/.installed-train

$(VENV)/.installed-train: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train]'
	@touch $@

# A simulated cohort, through the same command as a real one; the table is written, and shown, every time.
demo: setup
	@grep -q '^sim-negative' config/samples.tsv \
		|| { echo "config/samples.tsv names slides of your own; run: snakemake --cores 8 --resources gpu=1"; exit 1; }
	$(BIN)/ercohort simulate --cohort demo
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --cores $(CORES) --resources gpu=1 --forcerun cohort

# The report's tests need Chromium; where it cannot be installed they are skipped, saying so.
setup-browser:
	@command -v chromium >/dev/null || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] \
		&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends chromium >/dev/null; } \
		|| echo "no Chromium: the tests of the report in the browser are skipped; on Debian: apt-get install chromium"

# The report's JavaScript libraries, from npm, in the versions that the script names.
vendor:
	$(PYTHON) src/ercohort/report/vendor/fetch.py

# By itself, on top of the other: its plugin would make every start of Snakemake half a second slower.
KUBERNETES := $(VENV)/kubernetes
PURELIB := 'import sysconfig; print(sysconfig.get_path("purelib"))'
$(KUBERNETES)/.installed: $(VENV)/.installed-dev
	$(BIN)/python -m venv --clear $(KUBERNETES)
	echo "import site; site.addsitedir('$$($(BIN)/python -c $(PURELIB))')" > "$$($(KUBERNETES)/bin/python -c $(PURELIB))/base.pth"
	$(KUBERNETES)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		snakemake-executor-plugin-kubernetes snakemake-storage-plugin-fs
	@touch $@

test: $(VENV)/.installed-dev $(VENV)/.installed-train $(KUBERNETES)/.installed setup-browser
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

# Some minutes: files that were sound once, and what somebody may have done to them. FUZZ is examples a test.
fuzz: $(VENV)/.installed-dev
	ERCOHORT_FUZZ=$(or $(FUZZ),3000) PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest tests/fuzz -q

# What each job takes of memory beside its rule's mem_mb, and a run in a control group of LIMIT megabytes.
memory: $(VENV)/.installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/memory.py $(if $(LIMIT),--limit-mb $(LIMIT)) $(MEMORY)

# Some hundred damaged slides through the steps of the workflow; a table of what became of them.
mutants: $(VENV)/.installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.mutants $(MUTANTS)

# A few minutes on 2 cores; FULL=1 runs the whole workload, BASE=<revision> compares with that revision.
bench: $(VENV)/.installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/bench.py $(if $(FULL),--size full) $(if $(BASE),--base $(BASE))

# The report of a thousand slides and the view of a million nuclei, in Chromium; two minutes.
bench-report: $(VENV)/.installed-dev setup-browser
	$(BIN)/python benchmarks/report.py

# A cohort of a thousand simulated slides, 2 % of them bad, to its table; three quarters of an hour on 2 cores.
thousand: $(VENV)/.installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/thousand.py $(if $(SLIDES),--slides $(SLIDES))

# Debian's Slurm, for the tests in tests/cluster, which are skipped without it; needs root.
setup-slurm:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends munge slurm-client slurmctld slurmd >/dev/null

# Debian's Groovy, for the tests of the scripts for QuPath, which are skipped without it; needs root.
setup-groovy:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends groovy default-jre-headless >/dev/null

# Faults on a real Slurm on this machine, half an hour: docs/slurm.md. SEED=<number> for other moments.
slurm-test: $(VENV)/.installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" ERCOHORT_REQUIRE=slurm $(BIN)/python -m pytest \
		-o python_files="test_*.py faults.py" tests/cluster

# Kills a run at random moments, again and again, and looks at what the next one makes of it; 15 minutes.
chaos: $(VENV)/.installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.faults.chaos $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED))

# What needs a GPU: parity with the CPU, the kernels on the device, compute-sanitizer. Skips say why.
gpu-test: $(VENV)/.installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest tests/gpu tests/unit/gpu -rs -s

# Speed and memory on this machine's GPU; the figures are kept beside the script, named by the device.
gpu-bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/gpu.py $(BENCH)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --lint

clean:
	rm -rf $(VENV) demo .mypy_cache .pytest_cache .ruff_cache
