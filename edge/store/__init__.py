"""The device's own store: results, their pictures, the queue of what is to be sent, and the audit chain, in SQLite."""
