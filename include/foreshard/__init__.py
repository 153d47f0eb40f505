"""Foreshard: adaptive data sharding with predictive load balancing."""

__version__ = "0.1.0"
