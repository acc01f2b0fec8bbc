"""The HTTP side: routes, limits, connections, the process that serves them."""
