"""Alembic's environment: runs revisions on the connection that `songhua.migrations.upgrade` hands over."""

from alembic import context

from songhua.migrations import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata(),
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
