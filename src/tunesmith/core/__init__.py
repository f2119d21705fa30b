"""The pure core: what is asked, decided and decoded, without any I/O."""
