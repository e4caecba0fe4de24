"""What a change of certificate costs on real SIP edges: calls lost, handshakes failed, time without service."""
