"""Engines that run the expressions of observing: Polars in this process, Spark on a cluster."""
