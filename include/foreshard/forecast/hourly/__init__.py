"""The forecaster that learns every hour, and the daily shapes that it carries."""
