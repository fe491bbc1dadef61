"""The published systems that the table compares with, where they are more than a network."""
