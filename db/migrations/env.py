"""Alembic's entry: run the migrations, in one transaction, on the database that `db.migrate` names."""

from alembic import context
from sqlalchemy import text
from sqlmodel import SQLModel

import db.models  # noqa: F401 - the import fills SQLModel.metadata
from db.engine import make_engine
from db.migrate import ADVISORY_LOCK


def main(url: str) -> None:
    """Migrate the database at ``url`` to the newest revision. Raises RuntimeError when references would break."""
    engine = make_engine(url)
    sqlite = engine.dialect.name == "sqlite"
    try:
        with engine.connect() as connection:
            if sqlite:
                # Batch mode copies and drops tables, which would cascade. Inside a transaction the pragma does nothing,
                # so it goes to the driver before one begins.
                driver = connection.connection.driver_connection
                assert driver is not None
                driver.execute("PRAGMA foreign_keys=OFF")
            context.configure(
                connection=connection, target_metadata=SQLModel.metadata, render_as_batch=sqlite, transactional_ddl=True
            )
            with context.begin_transaction():
                if not sqlite:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
                context.run_migrations()
                if sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise RuntimeError("The migration would leave records without what they refer to.")
    finally:
        engine.dispose()


main(context.config.attributes["url"])
