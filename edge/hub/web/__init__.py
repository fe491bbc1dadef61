"""The hub over HTTP: the protocol of the devices, the API of people, and the pages."""
