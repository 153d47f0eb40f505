"""What a plan is made from: the snapshot, and how history, states and sizes become its arrays."""
