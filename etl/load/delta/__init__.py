"""Delta tables on a disk. The only room that imports deltalake."""
