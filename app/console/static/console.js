// The console: pages work without it.
