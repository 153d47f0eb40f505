"""One file per stage: load, decide, save."""
