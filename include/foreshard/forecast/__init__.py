"""The forecast room: hourly cost per key, from counted hours to means, standard deviations and upper quantiles. No I/O."""
