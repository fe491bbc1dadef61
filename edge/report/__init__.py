"""The report a person reads, and the public JSON document behind it."""
