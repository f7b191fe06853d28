"""Alembic runs this for each command; the connection is handed to it by `app/console/store/migrate.py`."""

from __future__ import annotations

from alembic import context

from app.console.store import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.User.metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
