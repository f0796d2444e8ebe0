"""Into the warehouse: Delta tables, and the catalog that people connect to."""
