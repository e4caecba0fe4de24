"""What a change of certificate costs on real SIP edges, measured: calls lost, handshakes failed, time without service."""
