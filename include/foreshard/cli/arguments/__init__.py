"""Types of arguments and options that several commands take."""
