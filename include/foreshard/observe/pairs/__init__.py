"""Which keys are accessed together: pairs of keys, and the users who touch both."""
