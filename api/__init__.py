"""HTTP for people and programs: REST, the live stream, authentication, and the console's files."""
