"""Stage one: encoders, their pretraining and their use."""
