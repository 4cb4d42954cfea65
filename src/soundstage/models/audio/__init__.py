"""Audio encoders: time-stamped features of a waveform."""
