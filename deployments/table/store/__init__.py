"""The durable store behind the table: schema, migrations, group commit, on SQLite or PostgreSQL."""
