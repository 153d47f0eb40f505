"""Shadows: asynchronously updated copies, from the change stream of the primary copy to the replica on another partition."""
