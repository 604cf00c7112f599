"""Export: one file a format, one table."""
