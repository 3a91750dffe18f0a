"""The networks: one family a file; `catalog` finds and builds them by name."""
