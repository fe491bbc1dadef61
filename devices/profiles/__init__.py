"""What is known of each kind of device: one TOML file a kind, and the reader of them."""
