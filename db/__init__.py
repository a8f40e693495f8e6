"""The records: tables, one writer, migrations, and the queries that pages read with. Imports nothing of ours."""
