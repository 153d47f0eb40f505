"""Stages that only look: backtests of forecasts, replays of logs, and what other thresholds would have done."""
