# Everything sets itself up from nothing but Python >= 3.11; PYTHON=… chooses one.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
# A CPU build of torch where there is no NVIDIA GPU; the versions are those that were tested together.
TORCH ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo "torch>=2.6" || echo "torch==2.13.0")
# For tests without torch: the core without it, the extras cli, report and samples, and the tools.
LIGHT_PACKAGES = "numpy>=1.26" "SimpleITK>=2.3" "pydicom>=3.0" "requests>=2.31" "pillow>=10" "typer>=0.15" "rich>=13" \
  "jinja2>=3.1" "highdicom>=0.25" "reportlab>=4" "textstat>=0.7" "scipy>=1.12" "slicer-core>=5.12,<5.13" "safetensors>=0.4" \
  "huggingface_hub>=0.30" "filelock>=3" "psutil>=5" "pytest>=8" "hypothesis>=6" "medpy>=0.5" "pypdf>=5" "fhir.resources>=8" "nibabel>=5" "dcmqi>=1.5" "contourpy>=1.2" "matplotlib>=3.8" "PySide6-Essentials==6.9.3"
# Open images for training and measuring the embedded model (docs/data.md), and where training works.
DATA ?= ../shared/data
WORK ?= out/train
# Weights of MeshNet (docs/data.md), which labels one unlabelled T1 and is the rival in the bench; optional.
PRETRAINED ?= $(DATA)/../pretrained
TRAIN = $(BIN)/python -m MedFMLib.training.embedded
FROM = --data $(DATA) --work $(WORK)
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: demo test test-light test-slow bench panel panel-shot browser-tools audit lint docs train-tiny train-volumes train-language train-guard measure-guard clean

demo: $(VENV)/.run
	$(BIN)/medfm demo --output out/demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest Testing -m "not slow"

# What needs no torch, on another Python: LIGHT_PYTHON=python3.12 is Slicer's. Its environment has none of the large packages.
LIGHT_PYTHON ?= python3.12
LIGHT ?= .venv-light
LIGHT_TESTS = $(addprefix Testing/,cases core storage interfaces files exports imaging measure guard fact_check scene panel tasks cli)
test-light: $(LIGHT)/.done
	$(LIGHT)/bin/python -m pytest $(LIGHT_TESTS) -m "not slow"

$(LIGHT)/.done: pyproject.toml
	test -d $(LIGHT) || $(LIGHT_PYTHON) -m venv $(LIGHT)
	$(LIGHT)/bin/python -m pip install --quiet --disable-pip-version-check $(LIGHT_PACKAGES)
	$(LIGHT)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest Testing -m slow

bench: $(VENV)/.dev
	$(BIN)/medfm bench-tiny --data $(DATA)
	$(BIN)/python Testing/bench/reliability.py --data $(DATA)
	for part in reading speed volume follow_up memory decode server batch batch_parts; do $(BIN)/python Testing/bench/$$part.py || exit 1; done

panel: $(VENV)/.dev
	cd Testing && ../$(BIN)/python -m host ../MedFM/MedFM.py

panel-shot: $(VENV)/.dev
	$(BIN)/python Testing/panel/shots.py

# What the tests of pages in a real browser need beside Debian's chromium and chromium-driver.
browser-tools: $(VENV)/.dev
	mkdir -p out/browser
	cd out/browser && npm pack --silent axe-core@4 && tar -xzf axe-core-*.tgz --strip-components=1 package/axe.min.js && rm axe-core-*.tgz

# Known vulnerabilities of the installed packages; needs the network for its data.
audit: $(VENV)/.dev
	-$(PIP) "pip-audit>=2.7"
	$(BIN)/python Testing/support/audit.py

lint: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

# A broken link, a missing anchor or an unknown module ends it.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean
	@echo "Wrote out/site; open out/site/index.html"

# Every stage resumes from WORK; the networks for volumes and the language model share the two cores.
train-tiny: $(VENV)/.dev
	mkdir -p $(WORK)
	$(MAKE) -j2 train-volumes train-language
	$(TRAIN).align $(FROM) --minutes 16
	$(TRAIN).ship --work $(WORK) --output $(WORK)/medfm-tiny
	$(BIN)/medfm bench-tiny --data $(DATA) --model $(WORK)/medfm-tiny --unquantized $(WORK)/unquantized --output $(WORK)/bench

train-volumes:
	$(TRAIN).train_volume brain-mr-coarse $(FROM) --minutes 16
	$(TRAIN).train_volume brain-mr $(FROM) --minutes 46
	$(TRAIN).train_volume head-neck-ct $(FROM) --minutes 22
	$(TRAIN).train_volume hippocampus $(FROM) --minutes 9
	for name in brain-mr head-neck-ct hippocampus; do \
	  $(TRAIN).train_domain $$name $(FROM) && $(TRAIN).measure_agreement $$name $(FROM) || exit 1; done

train-language:
	$(TRAIN).train_codec $(FROM) --output $(WORK)/mask_codec --minutes 9
	$(TRAIN).train_vision_tower $(FROM) --processes 1 --minutes 60
	$(TRAIN).train_tiny $(FROM) --minutes 75
	$(TRAIN).train_adapter brain-mr $(FROM) --pretrained $(PRETRAINED) --minutes 20

# The intent models of the guard (docs/guard.md): some minutes; measuring trains once for each author that is held out.
GUARD = OMP_NUM_THREADS=1 $(BIN)/python -m MedFMLib.training.guard
GUARD_FROM = --data $(DATA) --weights $(WORK)/guard-weights --work $(WORK)/guard

train-guard: $(VENV)/.dev
	$(GUARD) train $(GUARD_FROM)

measure-guard: $(VENV)/.dev
	$(GUARD) folds $(GUARD_FROM)
	$(GUARD) tables $(GUARD_FROM)

$(VENV)/.run: pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit('MedFM needs Python 3.11 or newer; this is %d.%d. Call make PYTHON=python3.12' % sys.version_info[:2] if sys.version_info < (3, 11) else 0)"
	@$(PYTHON) -c "import ensurepip, venv" 2>/dev/null || { echo "Python's venv module is missing; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c "import torch" 2>/dev/null || { echo "Installing $(TORCH) …"; $(PIP) "$(TORCH)"; }
	$(PIP) -e ".[cli,report,samples]"
	$(PIP) --no-deps --target $(VENV)/samples --upgrade nilearn # for the scan that it ships, apart from the environment
	@$(BIN)/python -c "import runpy; runpy.run_path('Testing/host/system.py')['check']()"
	touch $@

$(VENV)/.dev: $(VENV)/.run pyproject.toml
	$(PIP) -e ".[dev,train,server,ray]"
	touch $@

$(VENV)/.docs: $(VENV)/.run pyproject.toml
	$(PIP) -e ".[docs]"
	touch $@

clean:
	rm -rf out build dist *.egg-info
