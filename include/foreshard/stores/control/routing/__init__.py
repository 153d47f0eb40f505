"""The routing table in the control database: its rows, publications, packed form, first version and upgrade."""
