"""The side of those who release: a repository of signed bundles. It needs private keys and never runs in a clinic."""
