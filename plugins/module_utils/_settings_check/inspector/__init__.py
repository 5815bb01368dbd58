"""Runs inside of the project's own interpreter, Python 3.8 or newer: nothing here imports Ansible, nor Django on import."""
