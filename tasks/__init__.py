"""The Celery tasks: each unpacks ids, calls one use case, and returns."""
