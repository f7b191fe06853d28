"""The archive: what purge writes before it deletes, one file a feed and day."""
