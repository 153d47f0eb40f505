"""The small interfaces between the library and the world; stores implement them, tests fake them."""
