"""The pure core: types, labels, the differential, clock, durable writes and errors. Standard library and NumPy only."""
