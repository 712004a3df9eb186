"""Where else records go: a file a service, imported only when a run names it."""
