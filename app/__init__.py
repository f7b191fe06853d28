"""Rowrelay: every new row of a SQL Server table, delivered to a partner's HTTP API, with proof."""

VERSION = "0.1.0"
"""pyproject.toml takes it from here."""
