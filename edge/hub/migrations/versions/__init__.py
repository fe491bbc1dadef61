"""One file a change of the tables; an old one is never edited."""
