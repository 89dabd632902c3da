"""TrendMonitor: finds slow decay over the nights of a release."""
