"""REST as TensorFlow Serving speaks it: HTTP, JSON, routes."""
