"""Tables, figures and the page of a run: a pure function of the run directory."""
