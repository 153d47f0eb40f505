"""The routing table and the decision where a request goes."""
