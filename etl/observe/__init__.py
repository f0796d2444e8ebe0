"""Listeners of events: progress, notifications, kill points."""
