"""What the pages load: our script and style sheet."""
