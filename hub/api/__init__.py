"""HTTP: the door for vendors' webhooks, and the REST API. The only package that imports FastAPI."""
