"""What a load takes: seconds, memory, requests and CPU time, each beside a named baseline of the same run."""
