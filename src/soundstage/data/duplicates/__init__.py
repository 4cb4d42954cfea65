"""Near-duplicates across a corpus: fingerprints of picture and sound, an index of them, and clusters of clips."""
