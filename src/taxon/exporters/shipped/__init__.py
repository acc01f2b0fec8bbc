"""What leaves with an artefact and runs where taxon is not installed: NumPy and Pillow are enough.

`taxon.exporters.portable` packs these modules with those of the preprocessing and the decision that
they need. Here they are checked and tested like any other; there `taxon` is called
`taxon_portable`, and `frozen_model` stands in for pydantic.
"""
