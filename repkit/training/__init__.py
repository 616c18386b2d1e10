"""The engine: data in memory, one loop, jobs and the executors that run them."""
