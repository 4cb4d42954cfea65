"""Video and sound files: probe, normalise, decode, encode, under limits against hostile media."""
