"""The models of a server: where they lie, which one answers, what is known of them."""
