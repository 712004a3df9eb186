"""Serving over HTTP: an OpenAI-compatible interface to one or more models, and a page to try them.

Every model has a thread of its own that runs its engine (`runner`); the event loop only carries messages (`routes`).
Needs the extra `serve`; `limits` alone does not.
"""
