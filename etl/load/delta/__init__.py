"""Delta tables, on a disk or in a bucket. The only room that imports deltalake."""
