"""One module per command: its steps from first to last. A job never imports a job."""
