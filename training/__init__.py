"""Makes models: data, networks, fitting, evaluation. Runs on a workstation, never on a device."""
