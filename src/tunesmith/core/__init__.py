"""The pure core of the client: what is sent, decided and decoded, without any I/O."""
