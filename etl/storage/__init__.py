"""How a name becomes durable."""
