"""Many fields at once: the same work on the cores of one machine, or of many, that can be interrupted at any moment."""
