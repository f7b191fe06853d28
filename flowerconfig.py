"""Flower's settings: found in the directory that Flower is started in. What is not written here
keeps its default.
"""

tasks_columns = "name,kwargs,state,received,runtime,worker"
"""A batch reads `feed=orders n=100 batch=…`; a task's id says nothing that this does not, and has a
page of its own.
"""
max_tasks = 10_000
"""Kept in memory. A busy installation has more in an hour than anybody reads."""
purge_offline_workers = 3600
"""Seconds after which a worker that is gone leaves the list."""
natural_time = False
