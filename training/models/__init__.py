"""The networks, written in Keras 3."""
