"""The foreshard command."""
