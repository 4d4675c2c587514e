"""The ledger in SQLite and in MariaDB: one set of tables, one set of statements, two stores."""
