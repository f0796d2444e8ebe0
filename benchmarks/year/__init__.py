"""A simulated year of nights, and what marts, macros and queries must answer on it, computed from events alone."""
