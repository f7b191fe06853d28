"""The archive: the files that purge writes before it deletes, one for each feed and day."""
