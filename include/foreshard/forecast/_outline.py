"""A Prophet that cannot fit: all of Prophet but the optimiser. Imported lazily, for it imports Prophet."""

from __future__ import annotations

from prophet import Prophet


class Outline(Prophet):  # type: ignore[misc]
    """Prophet without a Stan backend, of which the loading would cost more than a batched fit of a thousand keys."""

    def _load_stan_backend(self, stan_backend: str | None) -> None:
        del stan_backend
        self.stan_backend = None
