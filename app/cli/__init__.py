"""The command line: `python -m app <command>`.

Exit codes: 0 all is well; 1 the command found something wrong, or could not do it; 2 wrong usage or
configuration.
"""
