"""Sources of frames, one class a file: replay of recorded fields, and a simulated microscope."""
