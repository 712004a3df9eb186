"""The HTTP routes, a file each kind: every function returns the router of its paths."""
