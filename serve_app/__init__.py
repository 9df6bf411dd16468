"""What a user meets: configuration, HTTP endpoint, command line, the Serve application builders."""
