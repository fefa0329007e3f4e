"""What starts a process: the default model, the HTTP servers, and what a process tells the others about itself."""
