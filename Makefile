# Every target sets up .venv when it must; a second call does no set-up.
# GNU make 3.81 or newer. On Windows see README for the plain commands.

PY := .venv/bin/python

# The project's own code comes first, also when the folder was copied together with its .venv.
export PYTHONPATH := $(CURDIR)
export PYTHONHASHSEED := 0

.DEFAULT_GOAL := help
.PHONY: help report test lab new check refresh bench

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-8s %s\n' "$$name" "$$text"; \
	done
	@printf '\n  STUDY=laptop_store  a folder of data/, or a path (report, check)\n'
	@printf '  ONLY=04_funnel  FROM=03_map  SET="funnel.within=14d"  JOBS=2  ENGINE=spark  (report)\n'

report: .venv/.ready ## run the chapters of STUDY and build its report
	@$(PY) -m journeykit run $(or $(STUDY),laptop_store) $(foreach name,$(ONLY),--only $(name)) \
		$(if $(FROM),--from $(FROM)) $(foreach item,$(SET),--set '$(item)') $(if $(JOBS),--jobs $(JOBS)) \
		$(if $(ENGINE),--engine '$(ENGINE)')

test: .venv/.ready ## lint, types, a fresh report, all tests, all notebooks
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m journeykit run laptop_store
	$(PY) -m pytest tests journeykit --doctest-modules -q -n 2 --dist loadfile --no-loadscope-reorder
	$(PY) -m pytest notebooks -q --nbval --nbval-current-env --nbval-sanitize-with=tests/nbval_sanitize.cfg

lab: .venv/.ready ## open JupyterLab in the same environment
	@$(PY) -m jupyter lab --ServerApp.preferred_dir='$(CURDIR)/notebooks'

new: .venv/.ready ## make the study STUDY out of FILES (files, folders, wildcards)
	@$(PY) -m journeykit new $(or $(STUDY),$(error give STUDY=name, and FILES=...)) $(if $(FILES),--from $(FILES))

check: .venv/.ready ## say what a run of STUDY would do, without running it
	@$(PY) -m journeykit check $(or $(STUDY),laptop_store)

refresh: .venv/.ready ## execute the committed notebooks again and normalise them
	@$(PY) -m journeykit refresh

bench: .venv/.ready ## measure time and memory on simulated studies
	$(PY) tests/bench.py
	$(PY) tests/bench_ingest.py
	$(PY) tests/bench_stitch.py
	$(PY) tests/bench_stitch.py 50000000 --memory 2GB
	$(PY) tests/bench_paths.py
	$(PY) tests/bench_churn.py
	$(PY) tests/bench_experiments.py

.venv/.ready: requirements.txt pyproject.toml
	@set -e; \
	fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; \
	found=; \
	for name in python3 python3.13 python3.12 python3.11; do \
		if $$name -c "$$fits" >/dev/null 2>&1; then found=$$name; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "journeykit needs Python 3.11, 3.12 or 3.13, and none of python3, python3.13, python3.12, python3.11 is one." >&2; \
		echo "Install one (Debian and Ubuntu: apt install python3 python3-venv) and call make again." >&2; \
		exit 1; \
	fi; \
	log=$$(mktemp "$${TMPDIR:-/tmp}/journeykit.XXXXXX"); \
	quietly() { "$$@" >"$$log" 2>&1 || { cat "$$log" >&2; rm -f "$$log"; echo "set-up failed at: $$*" >&2; return 1; }; }; \
	uv=; if uv --version >/dev/null 2>&1; then uv=uv; fi; \
	if ! $(PY) -c "$$fits" >/dev/null 2>&1; then \
		echo "making .venv with $$found"; \
		rm -rf .venv; \
		if [ -n "$$uv" ]; then quietly uv venv --python "$$(command -v $$found)" .venv; \
		elif ! $$found -c 'import venv, ensurepip' >/dev/null 2>&1; then \
			echo "$$found cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; \
			exit 1; \
		else quietly $$found -m venv .venv; fi; \
	fi; \
	echo "installing the packages of requirements.txt (one to three minutes the first time)"; \
	if [ -n "$$uv" ]; then \
		quietly uv pip install --python $(PY) -r requirements.txt; \
		quietly uv pip install --python $(PY) --no-deps -e .; \
	else \
		if ! $(PY) -m pip --version >/dev/null 2>&1; then quietly $(PY) -m ensurepip; fi; \
		quietly $(PY) -m pip install --disable-pip-version-check -q -r requirements.txt; \
		quietly $(PY) -m pip install --disable-pip-version-check -q --no-deps -e .; \
	fi; \
	rm -f "$$log"; \
	touch $@
