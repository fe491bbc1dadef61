"""Alembic's environment and the versions of the hub's tables."""
