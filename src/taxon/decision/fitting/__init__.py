"""How each part of the decision policy is fitted; never imported where a model only answers."""
