"""Where rollouts are kept: one SQLite file. `rollouts` reads and writes them, `schema` has the tables."""
