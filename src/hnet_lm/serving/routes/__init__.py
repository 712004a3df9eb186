"""The HTTP routes, one file per kind. Each module has a function that returns its router."""
