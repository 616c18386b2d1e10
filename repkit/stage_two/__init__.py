"""Stage two: log-Mel frames and embeddings to emotion, arousal and valence. Knows nothing of stage one."""
