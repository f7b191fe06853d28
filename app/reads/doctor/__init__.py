"""The checks of `doctor`: each connects to, or looks at, one thing that a worker will need. Nothing
is delivered.
"""
