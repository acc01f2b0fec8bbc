"""Many pictures: a plan of parts, each computed and written once, whichever engine runs them."""
