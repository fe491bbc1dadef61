"""The model bundle: its manifest, its files, its golden vectors and their verification."""
