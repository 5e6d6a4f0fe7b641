"""`python -m songhua.migrations NUMBER "message"`: write the revision from `HEAD` to the tables as declared now.

The new file lands in `versions/`; read it, then set `HEAD` to its number. A test finds what was forgotten.
"""

import sys

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from songhua.migrations import upgrade

number, message = sys.argv[1:]
engine = create_engine("sqlite://", poolclass=StaticPool)
with engine.connect() as connection:
    upgrade(engine)
    configuration = Config(attributes={"connection": connection})
    configuration.set_main_option("script_location", "songhua:migrations")
    configuration.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    command.revision(configuration, message, autogenerate=True, rev_id=number)
