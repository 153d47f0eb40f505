"""Stages around the hourly count: amending counted hours, and checking a log beforehand."""
