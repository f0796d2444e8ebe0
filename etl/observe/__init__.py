"""Who is told what happens: progress, notifications."""
