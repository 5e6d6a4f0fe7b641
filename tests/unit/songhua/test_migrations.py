"""The schema: revisions lead to exactly the tables that rooms declare, also when several processes start at once."""

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from devices.errors import ConfigError, TransientError
from songhua import migrations
from storage.metadata import open_engine


def test_revisions_lead_to_the_declared_tables(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'songhua.db'}")
    migrations.upgrade(engine)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), migrations.metadata())
    assert differences == [], "make a revision: python -m songhua.migrations NUMBER MESSAGE"


def test_every_room_with_tables_is_known() -> None:
    root = Path(migrations.__file__).parent.parent.parent
    declared = set(migrations.metadata().tables)
    for path in root.glob("*/tables.py"):
        assert path.parent.name in {"storage", "rules", "api"}
    assert {"devices", "verdicts", "alarms", "outbox", "tokens"} <= declared


def test_head_is_the_newest_revision() -> None:
    configuration = Config()
    configuration.set_main_option("script_location", "songhua:migrations")
    assert ScriptDirectory.from_config(configuration).get_current_head() == migrations.HEAD


def _upgrade(url: str) -> None:
    migrations.upgrade(open_engine(url))


def test_processes_that_start_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'songhua.db'}"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_upgrade, args=(url,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    with open_engine(url).connect() as connection:
        assert migrations.revision(connection) == migrations.HEAD


def test_a_second_upgrade_changes_nothing(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'songhua.db'}")
    migrations.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO revisions (name, revision) VALUES ('registry', 7)"))
    migrations.upgrade(engine)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT revision FROM revisions")) == 7


def test_a_database_of_a_newer_songhua_is_refused(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'songhua.db'}")
    migrations.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="newer songhua"):
        migrations.upgrade(engine)


def test_a_database_that_does_not_answer_may_answer_later(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "songhua.db", isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(TransientError):
            migrations.upgrade(create_engine(f"sqlite:///{tmp_path / 'songhua.db'}", connect_args={"timeout": 0.1}))


def test_a_folder_that_is_missing_and_a_file_that_is_no_database_are_for_a_person(tmp_path: Path) -> None:
    (tmp_path / "letter.db").write_text("Dear Sir or Madam,\n" * 100)
    for path in (tmp_path / "missing" / "songhua.db", tmp_path / "letter.db"):
        with pytest.raises(ConfigError, match=path.name):
            migrations.upgrade(open_engine(f"sqlite:///{path}"))


def test_a_failed_upgrade_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'songhua.db'}")
    real = migrations._migrate

    def break_afterwards(connection: object) -> None:
        real(connection)  # type: ignore[arg-type]
        raise RuntimeError("power cut")

    monkeypatch.setattr(migrations, "_migrate", break_afterwards)
    with pytest.raises(RuntimeError):
        migrations.upgrade(engine)
    assert inspect(engine).get_table_names() == []
