"""Subcommands of `encore`, one file each; each holds a click command named `command`."""
