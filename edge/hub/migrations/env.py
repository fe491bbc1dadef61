"""Alembic's environment: `Database.migrate` hands over the connection whose transaction everything happens in."""

from __future__ import annotations

from alembic import context

from edge.hub.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
