"""Servers that start with nothing installed but this project's own packages: for the demo, tests
and benchmarks.

Never for production: they hold their data in a temporary directory and know no passwords.
"""
