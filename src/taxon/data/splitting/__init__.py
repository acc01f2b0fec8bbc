"""Splits: units of pictures that stay together, stratified over the parts."""
