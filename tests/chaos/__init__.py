"""The fault matrix: real processes, one fault a run, at a chosen moment, and the promises checked
after each.

python -m tests.chaos --quick | --all | --only NAME    (or `scripts/chaos`)
"""
