"""Forecasts of each key's hourly cost: means, standard deviations and upper quantiles. No I/O."""
