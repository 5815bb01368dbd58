"""Runs inside of the project's own interpreter, Python 3.8 or newer: no Ansible here, and Django only in functions."""
