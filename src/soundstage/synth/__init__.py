"""The procedural audio-visual world: objects that move when they sound, with the truth about every file."""
