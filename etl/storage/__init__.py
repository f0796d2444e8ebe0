"""Where a warehouse is, how a name becomes durable there, and who holds the lock."""
