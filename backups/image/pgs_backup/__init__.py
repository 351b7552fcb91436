"""One tenant's backups: its container runs this package, and is asked by its JSON verbs."""
