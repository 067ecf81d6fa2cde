"""Which objects should exist: one pure module a controller, and the loop that runs them all."""
