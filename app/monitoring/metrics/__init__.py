"""Prometheus metrics of one installation: read from the ledger, Redis and the source when
Prometheus asks.
"""
