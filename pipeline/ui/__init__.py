"""The web page over a workspace: `encore ui`."""
