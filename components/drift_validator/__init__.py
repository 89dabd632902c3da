"""DriftValidator: compares the statistics of new data with those of the live release."""
