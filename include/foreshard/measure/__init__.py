"""Shared formulas: demand, serving, the Load Prediction Score, distance, and placement rules."""
