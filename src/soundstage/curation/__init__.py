"""Curation: from signals and verdicts to the clips worth training on."""
