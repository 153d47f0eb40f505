"""The small interfaces between the library and the world; adapters implement them, tests fake them."""
