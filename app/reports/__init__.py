"""Reports: compiled from the statistics, stored in the ledger, written as JSON, CSV and one HTML
page, and sent.
"""
