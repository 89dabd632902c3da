"""LoggedEvaluator: yesterday's answers by slice, the cached path beside the uncached one."""
