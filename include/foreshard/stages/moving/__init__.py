"""What the stages that move units share."""
