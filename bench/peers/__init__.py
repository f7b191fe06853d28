"""The contestants besides Rowrelay: the same job, one job a row, each written as its own
documentation advises.

Each module is the application (what the library's own worker command is given) and, run as a
program, the producer. They run in virtual environments of their own, and import nothing of this
project but `work`, which they share.
"""
