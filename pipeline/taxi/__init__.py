"""The Chicago Taxi example: the data that ships with TFX, cut into two spans, and its model."""
