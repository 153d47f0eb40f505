"""The example app and its sample log."""
