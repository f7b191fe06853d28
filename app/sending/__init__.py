"""Sending to people: what is owed to them goes out by mail and webhook, until each has taken it."""
