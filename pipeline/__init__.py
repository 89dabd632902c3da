"""The release pipeline, the local runner and the `encore` command."""
