"""What the gates need besides a stage's result: what explains a table, how imported hours compare, and acceptances."""
