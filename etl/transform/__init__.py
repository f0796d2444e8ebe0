"""From page bytes to Arrow batches. Pure: no I/O, no clock, no configuration."""
