"""Load Prediction Scores."""
