"""The demo: an example app, its sample log, and the whole loop run once."""
