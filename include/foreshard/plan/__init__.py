"""The planner: from a snapshot of placement and forecasts to the hour's moves and shadows. Pure."""
