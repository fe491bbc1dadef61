"""Generated cells: a class-conditional network that learns to draw cells of a class that has few real ones."""
