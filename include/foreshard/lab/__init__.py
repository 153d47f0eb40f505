"""The lab: any log's hours again, under several policies, each knowing only what had happened before."""
