"""Alembic's entry: runs the migrations inside the transaction that `hub.store.migrate` opened."""

from alembic import context

from hub.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
    on_version_apply=context.config.attributes["reached"],
)
context.run_migrations()
