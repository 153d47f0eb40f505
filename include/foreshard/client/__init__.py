"""The app's side: a routed client with pymongo's verbs."""
