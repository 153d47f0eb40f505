"""Keep shadow copies up to date."""
