"""Statistics of drift and of slices: pure; then the files that read TFDV and TFMA, and reports."""
