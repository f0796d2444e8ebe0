"""Pages to a durable record. The only room that imports sqlite3."""
