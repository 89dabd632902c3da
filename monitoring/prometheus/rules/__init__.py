"""Recording rules and alerts; every alert has a runbook in docs/runbooks."""
