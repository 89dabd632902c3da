"""NightRecorder: judges a night, and commits its decision record."""
