"""From a name, a folder or an archive to batches of prepared pictures."""
