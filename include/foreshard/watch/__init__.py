"""What operators see: the state of the control database as figures for Prometheus."""
