"""Shared formulas: demand, serving, the Load Prediction Score, distance, placement rules; the garbage collector's pause."""
