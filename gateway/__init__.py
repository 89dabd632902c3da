"""The TF-Serving-compatible gateway: wire formats, routing, models, batching, request log."""
