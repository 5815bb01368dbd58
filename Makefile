# What a developer does here; CONTRIBUTING.md tells more.

SHELL := /bin/sh
SCENARIO ?= default

# Shims of version managers stand before the real programs and break what Ansible starts; the tests need neither.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_HOME := $(CURDIR)/.cache/ansible
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.cache/collections
export MOLECULE_GLOB := molecule/*/molecule.yml
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help test lint unit settings-check sanity docs docs-check molecule projects demo demo-clean bench clean

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 16

test: .cache/ready ## Everything, as in CI
	$(MAKE) --jobs=2 --output-sync=target settings-check lint unit docs-check sanity
	.venv/bin/python tests/scenarios.py

lint: .cache/ready ## ansible-lint, yamllint, ruff, mypy
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy plugins molecule/shared tests
	MYPYPATH=roles/backups/files/backups .venv/bin/mypy --python-version 3.11 roles/backups/files/trial.py roles/backups/files/backups/*.py
	MYPYPATH=roles/django_app/files .venv/bin/mypy --python-version 3.11 roles/hardening/files/look.py playbooks/files/read.py
	MYPYPATH=roles/nginx_tls/files/certificates .venv/bin/mypy --python-version 3.11 roles/nginx_tls/files/certificates/*.py
	.venv/bin/yamllint --strict .
	.venv/bin/ansible-lint

unit: .cache/ready ## Tests that need no host
	.venv/bin/pytest tests/unit

settings-check: .cache/ready ## The module django_settings_check against real versions of Django
	.venv/bin/pytest tests/settings_check

sanity: .cache/ready ## ansible-test sanity, on a clone
	tests/sanity.sh

docs: .cache/ready ## Generate the tables of the READMEs from the specifications
	.venv/bin/python tests/docs.py

docs-check: .cache/ready
	.venv/bin/python tests/docs.py --check

molecule: .cache/ready ## One scenario: make molecule SCENARIO=redis
	.venv/bin/python tests/scenarios.py $(SCENARIO)

projects: .cache/ready ## Projects of others on test hosts, all or one: make projects PROJECT=wagtail
	.venv/bin/python tests/projects.py $(PROJECT)

demo: .cache/ready ## A test host with the demo site on it
	.venv/bin/python tests/demo.py up

demo-clean: ## Remove it
	.venv/bin/python tests/demo.py down

bench: .cache/ready ## How long a converge and deployments take, and what visitors notice
	.venv/bin/python tests/bench.py

clean: demo-clean ## Remove everything that was made here
	rm -rf .cache .venv .ansible

.cache/ready: tests/requirements.txt tests/setup.sh
	tests/setup.sh .venv tests/requirements.txt
	mkdir -p .cache/collections/ansible_collections/groundwork
	ln -sfn ../../../.. .cache/collections/ansible_collections/groundwork/django
	touch $@
