"""The routing table, and the decision to which copy a request goes. Pure."""
