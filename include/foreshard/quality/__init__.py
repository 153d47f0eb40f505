"""Data-quality gates: Great Expectations suites between the stages."""
